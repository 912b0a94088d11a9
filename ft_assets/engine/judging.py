"""What `status` says about the judge of an evaluation. Nothing here sends anything or needs a key."""

from ft_assets.engine.project import Project
from ft_assets.stages.evaluation import to_judge
from ft_assets.stages.qa.money import dollars
from ft_assets.stages.scoring.judge import JudgePlan
from ft_assets.stages.scoring.judging import upper_estimate


def judge_cost_line(project: Project, corpus: str) -> str | None:
    """What judging the answers of the next evaluation costs at most; None without a judge.

    Raises UserError if the settings are wrong.
    """
    section = project.config(corpus).evaluation
    if section.judge is None:
        return None
    cap = f"evaluation.judge_max_usd {dollars(section.judge_max_usd or 0.0)}"
    states = project.status(corpus)
    if any(states[asset].version is None for asset in ("formatted_dataset", "adapter")):
        return f"the judge of the evaluation: priced once there is an adapter; {cap}"
    job = project.job(corpus, "evaluation")
    plan = JudgePlan.of(job)
    most = upper_estimate(plan, job, to_judge(job)) if plan else ""
    return f"the judge of the evaluation, at most: {most}; what the ledger has costs nothing; {cap}"
