"""Closed forms: polynomials by least squares, from sums that do not grow with the pictures.

For features X (a row for each latent pixel) and colours Y, the sums X'X, X'Y, Y'Y and the number of rows are all that
least squares needs. They are kept in float64 and can be added up: picture by picture, machine by machine, evening by
evening. They also give the error of any solution on the pictures they were made of, so the ridge is chosen on sums of
pictures that were held back.
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

FORMAT = "safelight.statistics/1"
MAX_HEADER_BYTES = 64 << 20  # of a file: with the keys of a million pictures
MAX_FEATURES = 5000  # X'X of as many takes 200 MB
RIDGES = tuple(10.0**exponent for exponent in range(-8, 3))
OVERALL_RIDGES = (0.0, 1e-3, 1e-2, 1e-1, 1.0, math.inf)  # of ten pictures, say, the means tell nothing
ROWS = 4096  # of features at a time, so that memory does not grow with the picture
# A variance or a pivot below this share of what it was made from is rounding of float64, not news.
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Form:
    """Which polynomial; the settings of `decoders.polynomial`, which says what they mean.

    Raises:
        FitError: it has more features than can be solved for.
        ValueError: there is no such polynomial.
    """

    channels: int
    degree: int = 1
    kernel: int = 1
    subpixel: int = 1
    overall: bool = False

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"expected channels from 1 up, got {self.channels}")
        with torch.device("meta"):  # nothing is allocated; what makes no sense is refused
            Polynomial(1, degree=self.degree, kernel=self.kernel, subpixel=self.subpixel)
        if self.local > MAX_FEATURES:
            raise FitError(
                f"a polynomial of degree {self.degree} in {self.channels} channels over {self.kernel} x {self.kernel} "
                f"latent pixels has {self.local:,} features, and their products would take "
                f"{8 * self.local**2 / 1e9:,.1f} GB; at most {MAX_FEATURES:,} are solved for: "
                "choose a lower degree or a smaller kernel"
            )

    @property
    def features(self) -> int:
        """Per latent pixel, without the constant."""
        return self.local + self.channels * self.overall

    @property
    def local(self) -> int:
        """Those of the latent pixels around it; the others are the means over the whole picture."""
        return count_features(self.channels, self.degree) * self.kernel**2

    @property
    def outputs(self) -> int:
        """Numbers per latent pixel: 3 colours of each sub-pixel."""
        return 3 * self.subpixel**2


@final
class Sums:
    """What least squares needs to know of any number of pictures.

    Args:
        form: of the polynomial they are for.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        n = form.features + 1  # the last feature is the constant 1
        self.xx = torch.zeros(n, n, dtype=torch.float64)
        self.xy = torch.zeros(n, form.outputs, dtype=torch.float64)
        self.yy = torch.zeros(form.outputs, dtype=torch.float64)

    @property
    def rows(self) -> int:
        """Latent pixels seen."""
        return int(self.xx[-1, -1])

    @torch.no_grad()
    def add(self, latents: Tensor, rgb: Tensor) -> None:
        """Takes in pictures.

        Args:
            latents: `[B, C, h, w]`, model space.
            rgb: `[B, 3, h*r, w*r]`, 0..1, r the form's `subpixel`.

        Raises:
            FitError: their sizes do not fit, or they hold values that are not finite.
        """
        expect_pairs(latents, rgb, self.form.channels, self.form.subpixel)
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

    def solve(self, ridge: float = 0.0, overall_ridge: float = 0.0) -> Tensor:
        """The coefficients `[F + 1, outputs]` that err least, the constant last.

        Features are standardised first, so that one ridge suits powers of all sizes; the constant is not held back.
        Means over whole pictures have another one besides: there are as many of them as pictures, not as pixels.
        `inf` leaves them out.

        Raises:
            FitError: there are too few pixels to tell the features apart, or the pictures show nothing.
        """
        if self.rows == 0:
            raise FitError("expected at least one picture, got none")
        mean_x, mean_y = self.xx[-1, :-1] / self.rows, self.xy[-1] / self.rows
        covariance = self.xx[:-1, :-1] / self.rows - torch.outer(mean_x, mean_x)
        # A feature that never changes says nothing: its weight is 0.
        live = covariance.diagonal() > ROUNDING * self.xx.diagonal()[:-1] / self.rows
        if overall_ridge == math.inf:
            live[self.form.local :] = False
        if not live.any() or (self.yy / self.rows - mean_y.square() <= ROUNDING * self.yy / self.rows).all():
            what = "pictures" if live.any() else "latents"
            raise FitError(f"the {what} are of one colour all over; give pictures that show something")
        if self.rows <= self.form.local:
            raise FitError(
                f"{self.rows:,} latent pixels are too few for {self.form.local:,} features; "
                "give more pictures, or choose a lower degree or a smaller kernel"
            )
        scale = torch.where(live, covariance.diagonal().clamp(min=1e-300).rsqrt(), 0.0)
        held_back = ridge + (~live).double()
        if overall_ridge != math.inf:
            held_back[self.form.local :] += overall_ridge
        system = covariance * scale[:, None] * scale + torch.diag(held_back)
        target = (self.xy[:-1] / self.rows - torch.outer(mean_x, mean_y)) * scale[:, None]
        factor, failed = torch.linalg.cholesky_ex(system)
        if failed or factor.diagonal().square().min() < ROUNDING:
            raise FitError(
                f"{self.rows:,} latent pixels do not tell {self.form.local:,} features apart; "
                "give more, and more varied, pictures, or a larger ridge"
            )
        weights = torch.cholesky_solve(target, factor) * scale[:, None]
        return torch.cat([weights, (mean_y - mean_x @ weights)[None]])

    def mse(self, coefficients: Tensor) -> float:
        """The mean squared error of a solution on these pictures, before clamping.

        Raises:
            FitError: there are no pictures.
        """
        if self.rows == 0:
            raise FitError("expected at least one picture to judge by, got none")
        explained = 2 * (coefficients * self.xy).sum() - (coefficients * (self.xx @ coefficients)).sum()
        return max(0.0, float((self.yy.sum() - explained) / (self.rows * self.form.outputs)))

    def save(self, path: Path, note: str = "") -> None:
        """Writes the sums as safetensors, whole or not at all.

        Args:
            path: of the file.
            note: what else there is to know of them.

        Raises:
            OSError: they cannot be written.
        """
        tensors = {"xx": self.xx, "xy": self.xy, "yy": self.yy}
        form = json.dumps(asdict(self.form))
        told = {"format": FORMAT, "form": form, "note": note, "sha256": digest(form + note, tensors)}
        write_tensors(path, tensors, told)

    @classmethod
    def load(cls, path: Path) -> "Sums":
        """Reads sums.

        Raises:
            FitError: there is no such file, it holds none, or damaged ones.
        """
        return cls.load_noted(path)[0]

    @classmethod
    def load_noted(cls, path: Path) -> tuple["Sums", str]:
        """Reads sums with the note that was saved with them; errors as of `load`."""
        try:
            metadata, tensors = open_tensors(path, max_header_bytes=MAX_HEADER_BYTES)
        except DecoderFileError as error:
            raise FitError(f"{error}; expected the statistics of a fit") from None
        try:
            if metadata.get("format") != FORMAT:
                raise ValueError(f"expected format {FORMAT}, got {metadata.get('format')!r}")
            note = metadata.get("note", "")
            if metadata["sha256"] != digest(metadata["form"] + note, tensors):
                raise ValueError("it is not as it was written")
            sums = cls(Form(**json.loads(metadata["form"])))
            for name in ("xx", "xy", "yy"):
                if tensors[name].shape != getattr(sums, name).shape or not torch.isfinite(tensors[name]).all():
                    raise ValueError(f"{name} is damaged")
                # A copy: on Windows a file that is mapped into memory could not be replaced.
                setattr(sums, name, tensors[name].to(torch.float64, copy=True))
            if (sums.xx.diagonal() < 0).any() or (sums.yy < 0).any() or sums.xx[-1, -1] % 1:
                raise ValueError("sums of squares are negative, or pixels not whole")
        except (FitError, KeyError, TypeError, ValueError, RecursionError, RuntimeError) as error:
            raise FitError(f"{path}: not the statistics of a fit: {error}; remove the file to begin anew") from None
        return sums, note


def features(latents: Tensor, form: Form) -> Tensor:
    """Rows of features of latent pixels `[B*h*w, local]` in the order of the polynomial's weights.

    Args:
        latents: `[B, C, h + k - 1, w + k - 1]`, the border of half a kernel around them, which gets no rows.
        form: of the polynomial, with kernel k.
    """
    products = Polynomial(form.channels, degree=form.degree).products(latents)
    return F.unfold(products, form.kernel).transpose(1, 2).flatten(0, 1)


def _rows(latents: Tensor, rgb: Tensor, form: Form) -> Iterator[tuple[Tensor, Tensor]]:
    """Features with the constant `[n, F + 1]`, and the colours that belong to them `[n, outputs]`, n about `ROWS`."""
    border = form.kernel - 1
    padded = F.pad(latents, (border // 2,) * 4, mode="replicate")
    colours = F.pixel_unshuffle(rgb, form.subpixel)
    lines = max(1, ROWS // latents.shape[3])
    for one, its_colours, mean in zip(padded, colours, latents.mean((2, 3)), strict=True):
        for top in range(0, latents.shape[2], lines):
            x = features(one[None, :, top : top + lines + border], form)
            if form.overall:
                x = torch.cat([x, mean.expand(len(x), -1)], dim=1)
            yield F.pad(x, (0, 1), value=1.0), its_colours[:, top : top + lines].flatten(1).T


class Ridges(NamedTuple):
    """How much weights are held back: all of them, and those of means over whole pictures besides."""

    ridge: float
    overall: float


def choose_ridge(fit: Sums, held_back: Sums, ridges: Sequence[float] = RIDGES) -> Ridges:
    """The ridges whose solution of `fit` errs least on `held_back`: that of all without the means, then theirs."""
    ridge = _least({ridge: Ridges(ridge, math.inf) for ridge in ridges}, fit, held_back)
    if not fit.form.overall:
        return Ridges(ridge, 0.0)
    return Ridges(ridge, _least({overall: Ridges(ridge, overall) for overall in OVERALL_RIDGES}, fit, held_back))


def _least(tried: Mapping[float, Ridges], fit: Sums, held_back: Sums) -> float:
    errors: dict[float, float] = {}
    for name, ridges in tried.items():
        try:
            solution = fit.solve(*ridges)
        except FitError:  # too small a ridge for so few pictures
            if name == max(tried):
                raise
            continue
        errors[name] = held_back.mse(solution)
    return min(errors, key=errors.__getitem__)


def weights(coefficients: Tensor, form: Form) -> Mapping[str, Tensor]:
    """The tensors of a `polynomial` decoder with these coefficients."""
    kernel = coefficients[: form.local].T.reshape(form.outputs, -1, form.kernel, form.kernel)
    tensors = {"weight": kernel.float().contiguous(), "bias": coefficients[-1].float()}
    return tensors | ({"overall": coefficients[form.local : -1].T.float().contiguous()} if form.overall else {})


def digest(facts: str, tensors: Tensors) -> str:
    """The sha256 of what a file says in words and in numbers: a number that changed on a disk is still a number."""
    told = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        told.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        told.update(tensor.contiguous().numpy().tobytes())
    return told.hexdigest()


def expect_pairs(latents: Tensor, rgb: Tensor, channels: int, scale: int) -> None:
    """Raises `FitError` unless latents and pictures belong together and are finite."""
    if latents.ndim != 4 or latents.shape[1] != channels:
        raise FitError(f"expected latents [B, {channels}, h, w], got {list(latents.shape)}")
    expected = [len(latents), 3, latents.shape[2] * scale, latents.shape[3] * scale]
    if list(rgb.shape) != expected:
        raise FitError(f"expected pictures {expected} for latents {list(latents.shape)}, got {list(rgb.shape)}")
    if not (torch.isfinite(latents).all() and torch.isfinite(rgb).all()):
        raise FitError("expected finite latents and pictures; the encoder or the picture gives NaN or infinity")
