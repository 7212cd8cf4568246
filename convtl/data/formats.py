"""What the name of a file tells about it: whether it may be a picture, and whether in a format that is read."""

from pathlib import PurePath

from PIL import Image


def _suffixes(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


_SOMETIMES_READ = _suffixes("avif avifs heic heif hif jxl")
"""Pictures that only some builds of Pillow read; a wrong suffix is common among them, so they are tried."""
_RAW = _suffixes(
    "3fr arw cr2 cr3 crw dcr dng erf kdc mef mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f"
)
"""Raw data of cameras; Pillow takes some of it for TIFF and would show the thumbnail in it."""
_NO_PICTURES = _suffixes(
    "7z aae avi bz2 csv db doc docx gz htm html ini ipynb json jsonl lnk log m4a m4v md mkv mov mp3 mp4 npy npz pdf "
    "pkl ppt pptx py rar rtf sh tar toml tsv txt url wav xls xlsx xml xmp yaml yml zip"
)
"""What often lies beside pictures. A file with a suffix that nobody knows, or with none, may be one."""


def is_raw(name: str) -> bool:
    """Whether a file holds raw data of a camera."""
    return _suffix(name) in _RAW


def unread_format(name: str) -> str | None:
    """The suffix of a picture in a format that is not read here; None for all other files."""
    suffix = _suffix(name)
    return suffix if suffix in _RAW or (suffix in _SOMETIMES_READ and not _opened(suffix)) else None


def unread_files(suffix: str, count: int) -> str:
    """What to say about files of a format that is not read."""
    return f"{count} {suffix} file{'s' * (count != 1)} cannot be read, convert to JPEG or PNG"


def looks_like_a_picture(name: str) -> bool:
    """Whether somebody would miss the file if it cannot be read, as nobody misses a text beside pictures."""
    return unread_format(name) is not None or _opened(_suffix(name))


def may_be_a_picture(name: str) -> bool:
    """Whether the name leaves a chance that the file is a picture."""
    return _suffix(name) not in _NO_PICTURES


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()


def _opened(suffix: str) -> bool:
    Image.init()
    return Image.registered_extensions().get(suffix) in Image.OPEN
