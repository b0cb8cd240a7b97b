"""Models of the hub for the profile ``paper``: proteins (DPLM, ESMFold), text (MDLM, a review classifier, GPT-2), images (DINOv2).

A model is named by its hub id, also with ``@revision``, or by a local folder, see :mod:`lib.hub`. What cannot be had raises one
:class:`~lib.datasets.DataError`; the experiments turn it into a visible notice and leave themselves out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.datasets import DataError
from lib.ddpp.dit import DiT
from lib.ddpp.proteins import RESIDUES
from lib.ddpp.rewards import Reward
from lib.hub import load_model, load_tokenizer, load_weights, read_safetensors, snapshot
from lib.plain_files import read_json

SYMBOLS = "LAGVSERTIDPKQNFYMHWC"
"""The twenty residues in the order of ESM's vocabulary, where they are the tokens 4 to 23."""
START, END_TOKEN, FIRST_RESIDUE, MASK = 0, 2, 4, 32
CONTACTS = (r"(^|\.)contact_head\.",)
"""ESM's head for contacts, which some checkpoints lack and others hold; neither sequences nor folds depend on it."""


# --- proteins -----------------------------------------------------------------------------------------------------------


class ProteinDenoiser(nn.Module):
    """A masked language model of proteins as a denoiser of sequences of fixed length over the twenty residues of :data:`SYMBOLS`.

    Args:
        model: an ESM model with a head, from transformers. length: n, residues.
    """

    n_symbols = len(SYMBOLS)

    def __init__(self, model: nn.Module, length: int) -> None:
        super().__init__()
        self.model, self.n_tokens = model, length
        known = getattr(getattr(model, "config", None), "mask_token_id", None)
        self.mask_token = MASK if known is None else int(known)

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
        """Logits (B, n, 21) of tokens (B, n) in 0..20, 20 being the mask; start and end are added."""
        ids = torch.where(tokens == self.n_symbols, self.mask_token, tokens + FIRST_RESIDUE)
        ids = F.pad(F.pad(ids, (1, 0), value=START), (0, 1), value=END_TOKEN)
        logits = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        residues = logits[:, 1:-1, FIRST_RESIDUE : FIRST_RESIDUE + self.n_symbols]
        return F.pad(residues, (0, 1))


def load_protein_denoiser(source: str, length: int, device: torch.device) -> ProteinDenoiser:
    """DPLM (paper: ``airkingbd/dplm_150m``), whose weights have the form of ESM-2.

    Raises:
        DataError: if it cannot be had. ValueError: for a length below 1.
    """
    if length < 1:
        raise ValueError(f"length={length} must be positive")
    return (
        ProteinDenoiser(load_model("EsmForMaskedLM", source, absent=CONTACTS, unused=CONTACTS), length)
        .to(device)
        .eval()
    )


def sequences_of(tokens: Tensor) -> list[str]:
    """Letters of tokens (N, n) in 0..19."""
    return ["".join(SYMBOLS[i] for i in row) for row in tokens.tolist()]


@dataclass(frozen=True)
class Fold:
    """A predicted structure. ``plddt``: mean over residues, in [0, 1]. ``alpha_carbons``: Å, (n, 3). ``pdb``: all atoms, in PDB format."""

    sequence: str
    ptm: float
    plddt: float
    alpha_carbons: np.ndarray
    pdb: str


class Folder:
    """ESMFold (paper: ``facebook/esmfold_v1``, without recycling)."""

    def __init__(self, source: str, device: torch.device) -> None:
        self.model = load_model("EsmForProteinFolding", source, absent=CONTACTS, unused=CONTACTS).to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, sequence: str) -> Fold:
        """Fold one sequence.

        Raises:
            ValueError: for an empty sequence or an unknown residue.
        """
        if not sequence or set(sequence) - set(RESIDUES):
            raise ValueError(
                f"sequence holds no residue, or an unknown one: {sorted(set(sequence) - set(RESIDUES))}"
            )
        ids = torch.tensor([[RESIDUES.index(letter) for letter in sequence]], device=self.device)
        output = self.model(ids, attention_mask=torch.ones_like(ids), num_recycles=0)
        positions = output["positions"][-1, 0, :, 1].float().cpu().numpy()  # atom 1 of a residue is its Cα
        return Fold(
            sequence,
            float(output["ptm"]),
            float(output["plddt"][0, :, 1].float().mean()),
            positions,
            self.model.output_to_pdb(output)[0],
        )


class FoldReward(Reward):
    """log R of sequences by a function of their predicted folds; each different sequence is folded once.

    Args:
        folder: sequence → :class:`Fold`. score: fold → log R. exponent: 1/β (8 for sheets, 1000 for shrinking in the paper).
    """

    def __init__(
        self, folder: Callable[[str], Fold], score: Callable[[Fold], float], exponent: float
    ) -> None:
        super().__init__(exponent)
        self.folder, self.score = folder, score
        self.known: dict[str, float] = {}

    @staticmethod
    def letters(tokens: Tensor) -> list[str]:
        """Sequences of tokens (N, n)."""
        return sequences_of(tokens)

    def log_reward(self, clean: Tensor) -> Tensor:
        """log R (N,) of tokens (N, n)."""
        letters = sequences_of(clean)
        for sequence in dict.fromkeys(letters):
            if sequence not in self.known:
                self.known[sequence] = self.score(self.folder(sequence))
        return torch.tensor([self.known[s] for s in letters], device=clean.device)

    def log_reward_of_onehot(self, onehot: Tensor) -> Tensor:
        """A structure predictor is no function of one-hots here.

        Raises:
            ValueError: always; DDPP-KL cannot use this reward.
        """
        raise ValueError("the reward of a fold has no gradient: use is, lb or rtb")


# --- text ---------------------------------------------------------------------------------------------------------------

MDLM_BLOCK = {
    "norm1": "norm1",
    "attn_qkv": "qkv",
    "attn_out": "out",
    "norm2": "norm2",
    "mlp": "mlp",
    "adaLN_modulation": "modulation.linear",
}
MDLM_OUTPUT = {"norm_final": "norm", "linear": "output", "adaLN_modulation": "modulation.linear"}


def mdlm_name(name: str) -> str | None:
    """Name in :class:`~lib.ddpp.dit.DiT` of a tensor of the released MDLM, None for a buffer that is computed here.

    Raises:
        DataError: for a tensor that MDLM does not have.
    """
    parts = name.removeprefix("backbone.").split(".")
    if parts[0] in ("rotary_emb", "noise"):
        return None
    if parts[:2] == ["vocab_embed", "embedding"]:
        return "body.embedding"
    if parts[:2] == ["sigma_map", "mlp"]:
        return ".".join(["body.time", *parts[2:]])
    if parts[0] == "blocks" and len(parts) > 3 and parts[2] in MDLM_BLOCK:
        return ".".join(["body.blocks", parts[1], MDLM_BLOCK[parts[2]], *parts[3:]])
    if parts[0] == "output_layer" and len(parts) > 2 and parts[1] in MDLM_OUTPUT:
        return ".".join([MDLM_OUTPUT[parts[1]], *parts[2:]])
    raise DataError(f"{name!r} is no tensor of MDLM")


def load_mdlm(source: str, n_tokens: int, device: torch.device, heads: int | None = None) -> DiT:
    """MDLM (paper: ``kuleshov-group/mdlm-owt``) as a :class:`~lib.ddpp.dit.DiT` over ``n_tokens`` tokens of GPT-2's vocabulary.

    Args:
        heads: attention heads; read from the configuration (``n_heads``) if not given.

    Raises:
        DataError: if it cannot be had, or tensors are missing or have other shapes.
    """
    folder = snapshot(source)
    state = {}
    for name, tensor in read_safetensors(folder).items():
        own = mdlm_name(name)
        if own is not None:
            state[own] = tensor.float()
    if heads is None:
        path = folder / "config.json"
        config = read_json(path, DataError) if path.is_file() else {"n_heads": 12}
        heads = config.get("n_heads") if isinstance(config, dict) else None
        if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1:
            raise DataError(f"{source}: config.json has no number of attention heads 'n_heads'")
    if "body.embedding" not in state:
        raise DataError(f"{source} holds no embedding of MDLM")
    outcomes, width = state["body.embedding"].shape
    blocks = 1 + max((int(n.split(".")[2]) for n in state if n.startswith("body.blocks.")), default=-1)
    model = DiT(n_tokens, outcomes - 1, width, blocks, heads, time_conditioned=False)
    load_weights(model, state, source)
    return model.to(device).eval()


class ReviewReward(Reward):
    """log p(one star | text) by a classifier of reviews (paper: ``LiYuan/amazon-review-sentiment-analysis``), class 0 of five.

    Args:
        source: hub id or folder. decode: tokens (N, n) → texts. exponent: 1/β, 2 in the paper.
    """

    def __init__(
        self,
        source: str,
        decode: Callable[[Tensor], list[str]],
        device: torch.device,
        exponent: float = 2.0,
        star: int = 0,
    ) -> None:
        super().__init__(exponent)
        self.tokenizer = load_tokenizer(source)
        self.model = load_model("AutoModelForSequenceClassification", source).to(device)
        self.decode, self.device, self.star = decode, device, star

    @torch.no_grad()
    def log_reward(self, clean: Tensor) -> Tensor:
        """log p(one star) (N,) of tokens (N, n)."""
        texts = self.decode(clean)
        parts = []
        for i in range(0, len(texts), 64):
            encoded = self.tokenizer(
                texts[i : i + 64], return_tensors="pt", padding=True, truncation=True, max_length=512
            ).to(self.device)
            parts.append(self.model(**encoded).logits.float().log_softmax(-1)[:, self.star])
        return torch.cat(parts).to(clean.device)

    def log_reward_of_onehot(self, onehot: Tensor) -> Tensor:
        """The classifier has another vocabulary than the diffusion model.

        Raises:
            ValueError: always; DDPP-KL cannot use this reward.
        """
        raise ValueError(
            "the review classifier reads text of another vocabulary, without gradient: use is, lb or rtb"
        )


@torch.no_grad()
def generative_perplexity(source: str, texts: Sequence[str], device: torch.device) -> float:
    """exp of the mean negative log-probability per token of texts, by a causal model (paper: ``openai-community/gpt2-large``).

    Raises:
        DataError: if the model cannot be had. ValueError: if no text has two tokens.
    """
    tokenizer = load_tokenizer(source)
    model = load_model("AutoModelForCausalLM", source).to(device)
    total, count = 0.0, 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=1024)["input_ids"].to(device)
        if ids.shape[1] < 2:
            continue
        logs = model(ids).logits[:, :-1].float().log_softmax(-1)
        total -= float(logs.gather(-1, ids[:, 1:, None]).sum())
        count += ids.shape[1] - 1
    if count == 0:
        raise ValueError("generative_perplexity needs a text of at least two tokens")
    return float(np.exp(total / count))


# --- images -------------------------------------------------------------------------------------------------------------

POOLER = (r"^pooler\.",)
"""A layer behind the class token's state, which is not used here."""


def image_features(source: str, device: torch.device, size: int = 224) -> Callable[[Tensor], Tensor]:
    """Function from ink (B, 1, S, S) in [0, 1] to features (B, d) of a vision transformer (paper: DINOv2 ViT-B/14).

    Images are repeated over three channels, enlarged, and normalised with ImageNet's moments; the feature is the class token's.

    Raises:
        DataError: if the model cannot be had.
    """
    model = load_model("AutoModel", source, absent=POOLER, unused=POOLER).to(device)
    mean, deviation = (
        torch.tensor(v, device=device).view(1, 3, 1, 1)
        for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )

    @torch.no_grad()
    def features(ink: Tensor) -> Tensor:
        large = F.interpolate(
            ink.to(device).expand(-1, 3, -1, -1), size=(size, size), mode="bicubic", antialias=True
        )
        return model(pixel_values=(large.clamp(0, 1) - mean) / deviation).last_hidden_state[:, 0].float()

    return features
