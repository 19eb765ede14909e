"""Decode a video file into memory somebody else owns, such as a ring's reservation.

Needs PyAV, the extra ``video``; importing this module does not, only opening a :class:`Video`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Picture", "Video", "VideoError"]

#: A decoded ``av.VideoFrame``, in whatever pixel format the codec gives.
Picture: TypeAlias = Any


class VideoError(ValueError):
    """A file that holds no video that can be decoded."""


class Video:
    """The pictures of a file's first video stream, in order.

    A context manager and an iterator; :meth:`write` puts a picture into an array as rgb24.
    Raises ``ImportError`` without PyAV, ``OSError`` for a file that cannot be read, and
    ``VideoError`` for one that holds no video.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import av
        except ImportError:
            raise ImportError("reading video needs PyAV: pip install 'shmipc[video]'") from None
        try:
            self._container: Any = av.open(os.fspath(path))
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise VideoError(f"{os.fspath(path)} is not a video: {error}") from None
        streams = self._container.streams.video
        if not streams or not streams[0].codec_context.width:
            self._container.close()
            raise VideoError(f"{os.fspath(path)} holds no video stream")
        self._stream: Any = streams[0]
        self._stream.thread_type = "AUTO"
        context = self._stream.codec_context
        self.shape: tuple[int, int, int] = (context.height, context.width, 3)
        self.frame_len: int = context.height * context.width * 3
        self.frames: int | None = self._stream.frames or None  #: what the file says, if it does
        self.codec: str = context.name

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Picture]:
        import av

        try:
            yield from self._container.decode(self._stream)
        except av.error.FFmpegError as error:
            raise VideoError(f"cannot be decoded further: {error}") from None

    def write(self, picture: Picture, target: NDArray[np.uint8]) -> None:
        """Convert `picture` to rgb24 and write it into `target` of :attr:`shape`.

        The rows of the converter's output may be padded; the padding is left out.
        """
        height, width, depth = self.shape
        rgb = picture.reformat(width=width, height=height, format="rgb24")
        plane = rgb.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
        np.copyto(target, rows[:, : width * depth].reshape(self.shape))

    def close(self) -> None:
        """Close the file."""
        self._container.close()
