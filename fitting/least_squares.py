"""Fits polynomial decoders by least squares, from sums whose size does not grow with the number of images.

With features X (one row per latent pixel) and colors Y, least squares needs only X'X, X'Y, Y'Y and the number of rows.
These sums are float64. Sums of several images, machines or sessions can be added. They also give the error of any
solution on their images, so validation sums are enough to choose the ridge.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoders.files.tensor_file import Tensors, open_tensors, write_tensors
from ..decoders.nets.polynomial import Polynomial, count_features
from ..errors import DecoderFileError, FitError
from .processes import Processes

STATISTICS_FORMAT = "safelight.statistics/1"
MAX_STATISTICS_HEADER_BYTES = 64 << 20  # header with the keys of a million images
MAX_FEATURES = 5000  # the X'X of 5000 features takes 200 MB
RIDGES = tuple(10.0**exponent for exponent in range(-8, 3))
OVERALL_RIDGES = (0.0, 1e-3, 1e-2, 1e-1, 1.0, math.inf)  # the means of, say, ten images hold no information
ROWS_PER_STRIP = 4096  # feature rows in memory at a time, so that memory does not grow with the image
# A variance or a pivot below this share of its terms is float64 rounding.
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class PolynomialForm:
    """The settings of a polynomial decoder; `decoders.nets.polynomial` describes them.

    Raises:
        FitError: the polynomial has too many features to solve for.
        ValueError: the settings describe no polynomial.
    """

    channels: int
    degree: int = 1
    kernel: int = 1
    subpixel: int = 1
    overall: bool = False

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"expected channels from 1 up, got {self.channels}")
        with torch.device("meta"):  # checks the settings without allocating memory
            Polynomial(1, degree=self.degree, kernel=self.kernel, subpixel=self.subpixel)
        if self.local > MAX_FEATURES:
            raise FitError(
                f"a polynomial of degree {self.degree} in {self.channels} channels over {self.kernel} x {self.kernel} "
                f"latent pixels has {self.local:,} features, and their products would take "
                f"{8 * self.local**2 / 1e9:,.1f} GB; the limit is {MAX_FEATURES:,} features: "
                "choose a lower degree or a smaller kernel"
            )

    @property
    def features(self) -> int:
        """Number of features per latent pixel, without the constant."""
        return self.local + self.channels * self.overall

    @property
    def local(self) -> int:
        """Number of features from nearby latent pixels; the other features are means over the whole image."""
        return count_features(self.channels, self.degree) * self.kernel**2

    @property
    def outputs(self) -> int:
        """Number of outputs per latent pixel: 3 colors of each sub-pixel."""
        return 3 * self.subpixel**2


@final
class Sums:
    """The sums X'X, X'Y and Y'Y that least squares needs.

    Args:
        form: polynomial that the features belong to.
    """

    def __init__(self, form: PolynomialForm) -> None:
        self.form = form
        n = form.features + 1  # the last feature is the constant 1
        self.xx = torch.zeros(n, n, dtype=torch.float64)
        self.xy = torch.zeros(n, form.outputs, dtype=torch.float64)
        self.yy = torch.zeros(form.outputs, dtype=torch.float64)

    @property
    def rows(self) -> int:
        """Number of latent pixels in the sums."""
        return int(self.xx[-1, -1])

    @torch.no_grad()
    def add(self, latents: Tensor, rgb: Tensor) -> None:
        """Adds images to the sums.

        Args:
            latents: latents `[B, C, h, w]` in model space.
            rgb: images `[B, 3, h*r, w*r]` in 0..1, with r the form's `subpixel`.

        Raises:
            FitError: the sizes do not match, or values are not finite.
        """
        check_pairs(latents, rgb, self.form.channels, self.form.subpixel)
        for x, y in _rows(latents.double(), rgb.double(), self.form):
            self.xx.addmm_(x.T, x)
            self.xy.addmm_(x.T, y)
            self.yy += y.square().sum(0)

    def __add__(self, other: "Sums") -> "Sums":
        if self.form != other.form:
            raise FitError(f"expected sums for the same form, {self.form}, got {other.form}")
        both = Sums(self.form)
        both.xx, both.xy, both.yy = self.xx + other.xx, self.xy + other.xy, self.yy + other.yy
        return both

    def of_all(self, processes: Processes) -> "Sums":
        """Adds the sums of all processes."""
        whole = Sums(self.form)
        whole.xx, whole.xy, whole.yy = map(processes.total, (self.xx, self.xy, self.yy))
        return whole

    def solve(self, ridge: float = 0.0, overall_ridge: float = 0.0) -> Tensor:
        """Solves for the coefficients `[F + 1, outputs]` with the least squared error; the last row is the constant.

        Features are standardized first, so that one ridge suits powers of all sizes. The constant has no ridge.

        Args:
            ridge: ridge of all features.
            overall_ridge: additional ridge of the means over whole images, as there is one mean per image and not per
                pixel; `inf` leaves the means out.

        Raises:
            FitError: there are too few pixels to separate the features, or the images have one color.
        """
        if self.rows == 0:
            raise FitError("expected at least one image, got none")
        mean_x, mean_y = self.xx[-1, :-1] / self.rows, self.xy[-1] / self.rows
        covariance = self.xx[:-1, :-1] / self.rows - torch.outer(mean_x, mean_x)
        # A constant feature holds no information: its weight is 0.
        live = covariance.diagonal() > ROUNDING * self.xx.diagonal()[:-1] / self.rows
        if overall_ridge == math.inf:
            live[self.form.local :] = False
        if not live.any() or (self.yy / self.rows - mean_y.square() <= ROUNDING * self.yy / self.rows).all():
            constant = "images" if live.any() else "latents"
            raise FitError(f"all {constant} have one color; give images with some content")
        if self.rows <= self.form.local:
            raise FitError(
                f"{self.rows:,} latent pixels are too few for {self.form.local:,} features; "
                "give more images, or choose a lower degree or a smaller kernel"
            )
        scale = torch.where(live, covariance.diagonal().clamp(min=1e-300).rsqrt(), 0.0)
        penalty = ridge + (~live).double()
        if overall_ridge != math.inf:
            penalty[self.form.local :] += overall_ridge
        system = covariance * scale[:, None] * scale + torch.diag(penalty)
        target = (self.xy[:-1] / self.rows - torch.outer(mean_x, mean_y)) * scale[:, None]
        factor, failed = torch.linalg.cholesky_ex(system)
        if failed or factor.diagonal().square().min() < ROUNDING:
            raise FitError(
                f"{self.rows:,} latent pixels cannot separate {self.form.local:,} features; "
                "give more, and more varied, images, or a larger ridge"
            )
        weights = torch.cholesky_solve(target, factor) * scale[:, None]
        return torch.cat([weights, (mean_y - mean_x @ weights)[None]])

    def mse(self, coefficients: Tensor) -> float:
        """Computes the mean squared error of a solution on these images, before clamping.

        Raises:
            FitError: there are no images.
        """
        if self.rows == 0:
            raise FitError("expected at least one image to measure the error on, got none")
        explained = 2 * (coefficients * self.xy).sum() - (coefficients * (self.xx @ coefficients)).sum()
        return max(0.0, float((self.yy.sum() - explained) / (self.rows * self.form.outputs)))

    def save(self, path: Path, note: str = "") -> None:
        """Writes the sums as safetensors; a failed write leaves the old file.

        Args:
            path: path of the file.
            note: text to save with the sums.

        Raises:
            OSError: the file cannot be written.
        """
        tensors = {"xx": self.xx, "xy": self.xy, "yy": self.yy}
        form = json.dumps(asdict(self.form))
        checksum = content_digest(form + note, tensors)
        write_tensors(path, tensors, {"format": STATISTICS_FORMAT, "form": form, "note": note, "sha256": checksum})

    @classmethod
    def load(cls, path: Path) -> tuple["Sums", str]:
        """Reads sums and the note that was saved with them.

        Raises:
            FitError: the file is missing, damaged, or holds no sums.
        """
        try:
            metadata, tensors = open_tensors(path, max_header_bytes=MAX_STATISTICS_HEADER_BYTES)
        except DecoderFileError as error:
            raise FitError(f"{error}; expected the statistics of a fit") from None
        try:
            if metadata.get("format") != STATISTICS_FORMAT:
                raise ValueError(f"expected format {STATISTICS_FORMAT}, got {metadata.get('format')!r}")
            note = metadata.get("note", "")
            if metadata["sha256"] != content_digest(metadata["form"] + note, tensors):
                raise ValueError("the content does not match its checksum")
            sums = cls(PolynomialForm(**json.loads(metadata["form"])))
            for name in ("xx", "xy", "yy"):
                if tensors[name].shape != getattr(sums, name).shape or not torch.isfinite(tensors[name]).all():
                    raise ValueError(f"{name} is damaged")
                # A copy: Windows cannot replace a file that is mapped into memory.
                setattr(sums, name, tensors[name].to(torch.float64, copy=True))
            if (sums.xx.diagonal() < 0).any() or (sums.yy < 0).any() or sums.xx[-1, -1] % 1:
                raise ValueError("sums of squares are negative, or the number of pixels is not whole")
        except (FitError, KeyError, TypeError, ValueError, RecursionError, RuntimeError) as error:
            raise FitError(f"{path}: not the statistics of a fit: {error}; remove the file to start again") from None
        return sums, note


def polynomial_features(latents: Tensor, form: PolynomialForm) -> Tensor:
    """Computes a feature row per latent pixel, `[B*h*w, local]`, in the order of the polynomial's weights.

    Args:
        latents: latents `[B, C, h + k - 1, w + k - 1]`; the border of half a kernel gets no rows.
        form: polynomial, with kernel k.
    """
    products = Polynomial(form.channels, degree=form.degree).products(latents)
    return F.unfold(products, form.kernel).transpose(1, 2).flatten(0, 1)


def _rows(latents: Tensor, rgb: Tensor, form: PolynomialForm) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields features with the constant, `[n, F + 1]`, and their colors, `[n, outputs]`, n about `ROWS_PER_STRIP`."""
    border = form.kernel - 1
    padded = F.pad(latents, (border // 2,) * 4, mode="replicate")
    colors = F.pixel_unshuffle(rgb, form.subpixel)
    lines = max(1, ROWS_PER_STRIP // latents.shape[3])
    for image, image_colors, mean in zip(padded, colors, latents.mean((2, 3)), strict=True):
        for top in range(0, latents.shape[2], lines):
            x = polynomial_features(image[None, :, top : top + lines + border], form)
            if form.overall:
                x = torch.cat([x, mean.expand(len(x), -1)], dim=1)
            yield F.pad(x, (0, 1), value=1.0), image_colors[:, top : top + lines].flatten(1).T


class Ridges(NamedTuple):
    """The ridge of all weights, and the additional ridge of the means over whole images."""

    ridge: float
    overall: float


def choose_ridges(train: Sums, validation: Sums, ridges: Sequence[float] = RIDGES) -> Ridges:
    """Chooses the ridges with the least validation error: first without the means, then the ridge of the means."""
    ridge = _best_ridge({ridge: Ridges(ridge, math.inf) for ridge in ridges}, train, validation)
    if not train.form.overall:
        return Ridges(ridge, 0.0)
    tried = {overall: Ridges(ridge, overall) for overall in OVERALL_RIDGES}
    return Ridges(ridge, _best_ridge(tried, train, validation))


def _best_ridge(tried: Mapping[float, Ridges], train: Sums, validation: Sums) -> float:
    errors: dict[float, float] = {}
    for name, ridges in tried.items():
        try:
            solution = train.solve(*ridges)
        except FitError:  # the ridge is too small for so few images
            if name == max(tried):
                raise
            continue
        errors[name] = validation.mse(solution)
    return min(errors, key=errors.__getitem__)


def polynomial_tensors(coefficients: Tensor, form: PolynomialForm) -> Mapping[str, Tensor]:
    """Converts coefficients to the tensors of a `polynomial` decoder."""
    kernel = coefficients[: form.local].T.reshape(form.outputs, -1, form.kernel, form.kernel)
    tensors = {"weight": kernel.float().contiguous(), "bias": coefficients[-1].float()}
    return tensors | ({"overall": coefficients[form.local : -1].T.float().contiguous()} if form.overall else {})


def content_digest(facts: str, tensors: Tensors) -> str:
    """Computes the sha256 of a file's facts and tensors, to detect changed numbers."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_pairs(latents: Tensor, rgb: Tensor, channels: int, scale: int) -> None:
    """Raises `FitError` unless latents and images have matching sizes and finite values."""
    if latents.ndim != 4 or latents.shape[1] != channels:
        raise FitError(f"expected latents [B, {channels}, h, w], got {list(latents.shape)}")
    expected = [len(latents), 3, latents.shape[2] * scale, latents.shape[3] * scale]
    if list(rgb.shape) != expected:
        raise FitError(f"expected images {expected} for latents {list(latents.shape)}, got {list(rgb.shape)}")
    if not (torch.isfinite(latents).all() and torch.isfinite(rgb).all()):
        raise FitError("expected finite latents and images; the encoder or the image gives NaN or infinity")
