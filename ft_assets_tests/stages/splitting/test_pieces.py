"""The pieces of a text are those that LangChain's splitters find."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langchain_text_splitters import CharacterTextSplitter, RecursiveCharacterTextSplitter

from ft_assets.stages.splitting.pieces import paragraphs, recursive_pieces

TEXTS = st.text(st.sampled_from("ab é\n\n  \n.\r日\u0301"), max_size=300)


class _Recording:
    """For a splitter of LangChain's: keeps the pieces that it would merge."""

    def _merge_splits(self, splits: list[str], separator: str) -> list[str]:
        assert separator == ""
        self.groups.append(list(splits))
        return []

    def groups_of(self, text: str) -> list[list[str]]:
        self.groups: list[list[str]] = []
        splitter: Any = self
        splitter.split_text(text)
        return self.groups


class _Recursive(_Recording, RecursiveCharacterTextSplitter):  # type: ignore[misc]
    pass


class _Paragraphs(_Recording, CharacterTextSplitter):  # type: ignore[misc]
    pass


@given(text=TEXTS, size=st.integers(2, 40))
def test_recursive_pieces_are_those_of_langchain(text: str, size: int) -> None:
    expected = _Recursive(chunk_size=size, chunk_overlap=0).groups_of(text)
    assert list(recursive_pieces(text, size)) == expected


@given(text=TEXTS)
def test_paragraphs_are_those_of_langchain(text: str) -> None:
    splitter = _Paragraphs(separator="\n\n", keep_separator="end", chunk_size=20, chunk_overlap=0)
    assert [paragraphs(text)] == splitter.groups_of(text)
