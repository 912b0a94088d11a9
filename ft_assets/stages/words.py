"""Numbers in words: counted things and sizes, as messages say them."""

_UNITS = ("kB", "MB", "GB", "TB")


def counted(count: int, one: str, many: str = "") -> str:
    """A number of things: `1 file`, `1,200 files`; `many` is for words without a plural in -s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def files_read(read: int, in_part: int, left_out: int) -> str:
    """What became of files: `4 of 6 files read (1 in part), 2 left out`."""
    files = counted(read + left_out, "file")
    said = f"{read:,} of {files} read" if left_out else f"{files} read"
    said += f" ({in_part:,} in part)" if in_part else ""
    return f"{said}, {left_out:,} left out" if left_out else said


def size_of(count: int) -> str:
    """A number of bytes in the largest unit of which there is one: `312 bytes`, `4.2 kB`."""
    if count < 1_000:
        return counted(count, "byte")
    value, units = count / 1_000, [*_UNITS]
    while value >= 999.95 and len(units) > 1:
        value /= 1_000
        units.pop(0)
    return f"{value:.1f} {units[0]}"


def memory_of(count: int) -> str:
    """A number of bytes of memory, as in `2.1 GiB`."""
    return f"{count / 2**30:.1f} GiB"


def time_of(seconds: float) -> str:
    """A length of time in its two largest units: `40 s`, `12 min`, `1 h 49 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours = f"{minutes // 60:,} h " if minutes >= 60 else ""
    return f"{hours}{minutes % 60} min"


def listed(names: list[str], shown: int, total: int | None = None) -> str:
    """The first few names, and how many more there are; `total` if `names` are not all of them."""
    more = (len(names) if total is None else total) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")
