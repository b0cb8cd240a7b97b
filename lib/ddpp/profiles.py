"""The four profiles of the chapter: every size of a run, with its unit and the paper's own value."""

from __future__ import annotations

from dataclasses import replace

from lib.ddpp.enumerated import METHODS
from lib.ddpp.gb1 import ALPHABET
from lib.profiles import ParameterError, setting, settings_class, shown

GRID_METHODS = ("IS", "LB", "KL", "KL, path gradient", "RTB", "sub-trajectory", "weighted CE")
CONTROL_METHODS = ("IS", "LB", "KL", "RTB", "weighted CE")
NETWORKS = ("mlp", "dit")
PRECISIONS = ("32-true", "bf16-mixed")
IMAGE_SIDES = (8, 14, 28)
"""Pixels of the built-in digits, and of the real ones averaged or as they are."""
IMAGE_HEADS = 8
"""Attention heads of the DiT on images."""
IMAGE_METHODS = ("is", "lb", "kl", "rtb", "weighted_ce")
TEXT_METHODS = ("is", "lb", "rtb")
GB1_METHODS = ("LB", "IS", "KL", "RTB", "sub-trajectory", "weighted CE", "LB, mixed buffer")


@settings_class
class Settings:
    """Sizes of one run of the chapter; the fields say what each one sets."""

    workers: int = setting(
        0, "processes", "trainings side by side; 0: one per core on a CPU, 1 on a GPU", least=0
    )
    checkpoint_every: int | None = setting(
        None, "steps", "steps between checkpoints for a resume; None: none", least=1
    )

    # --- one masked token (C1) ---
    single_symbols: int = setting(8, "symbols", "V of the one-token problem", least=2)
    single_calls: int = setting(500, "calls", "model calls of every method per sequence of a batch", least=1)
    single_batch: int = setting(256, "sequences", "batch of every step", least=1)
    single_rate: float = setting(3e-3, "1", "Adam's rate of every method, falling linearly to 0", above=0)
    single_seeds: int = setting(3, "seeds", "tunings of every objective", least=1)

    # --- grid (C2, C3) ---
    grid_side: int = setting(128, "positions", "side H", 128, least=8)
    grid_network: str = setting("mlp", "name", "mlp or dit", "dit, 90M weights", among=NETWORKS)
    grid_embedding: int = setting(32, "channels", "embedding of a symbol in the mlp", least=1)
    grid_width: int = setting(128, "channels", "width of the denoiser", "90M weights", least=1)
    grid_depth: int = setting(
        2, "layers", "hidden layers of the mlp, or blocks of the DiT", "90M weights", least=1
    )
    grid_heads: int = setting(4, "heads", "attention heads of the DiT", "not found", least=1)
    grid_pretrain_steps: int = setting(1000, "steps", "pretraining steps of a prior", "not found", least=1)
    grid_pretrain_batch: int = setting(256, "points", "points per pretraining step", "not found", least=1)
    grid_pretrain_rate: float = setting(
        2e-3, "1", "Adam's rate in pretraining, falling linearly", 3e-4, above=0
    )
    grid_floor: float = setting(-10.0, "nats", "log R where the half-plane reward is 0", "not said", below=0)
    grid_corner_floor: float = setting(-4.0, "nats", "log R where the corner reward is 0", below=0)
    grid_calls: int = setting(1100, "calls", "model calls of every method, half plane", "not found", least=1)
    grid_control_calls: int = setting(
        900, "calls", "model calls of every method on the two controls", least=1
    )
    grid_batch: int = setting(64, "points", "batch of every tuning step", 64, least=1)
    grid_rate: float = setting(2e-3, "1", "Adam's rate of every method, falling linearly to 0", 4e-3, above=0)
    grid_pool: int = setting(12_000, "points", "prior samples of the weighted cross-entropy", least=1)
    grid_refill_every: int = setting(100, "steps", "steps between refills of the buffer", 100, least=1)
    grid_refill_size: int = setting(1024, "points", "points of one refill", "not found", least=1)
    grid_buffer: int = setting(4096, "points", "capacity of the buffer", 10_000, least=1)
    grid_mixed: bool = setting(True, "1", "IS and LB: half of each refill from the prior", True)
    grid_methods: tuple[str, ...] = setting(
        GRID_METHODS, "names", "methods on the half plane", "IS, LB, KL", among=METHODS, distinct=True
    )
    grid_control_methods: tuple[str, ...] = setting(
        CONTROL_METHODS, "names", "methods on the controls", among=METHODS, distinct=True
    )
    grid_seeds: int = setting(
        5, "seeds", "tunings of every method on the half plane, from one prior", "not found", least=1
    )
    grid_control_seeds: int = setting(3, "seeds", "tunings of every method on each control", least=1)
    grid_evaluations: int = setting(5, "evaluations", "exact laws along a training", least=1)

    # --- strings (single-step bias) ---
    string_symbols: int = setting(
        6, "symbols", "V of the two-token strings on which the bias is tried", least=2
    )
    string_couplings: tuple[float, ...] = setting(
        (0.3, 1.0), "1", "strengths of the interaction that are trained", least=0, distinct=True
    )
    string_calls: int = setting(800, "calls", "model calls of every method", least=1)
    string_batch: int = setting(128, "strings", "batch of every step", least=1)
    string_rate: float = setting(5e-3, "1", "Adam's rate of every method, falling linearly to 0", above=0)
    string_refill_every: int = setting(50, "steps", "steps between refills of the buffer on strings", least=1)
    string_seeds: int = setting(3, "seeds", "tunings of every method at every strength", least=1)

    # --- GB1 (C3, C6) ---
    gb1_symbols: str = setting(ALPHABET, "letters", "amino acids that are kept")
    gb1_embedding: int = setting(32, "channels", "embedding of a symbol", least=1)
    gb1_width: int = setting(256, "channels", "width of the mlp", least=1)
    gb1_pretrain_steps: int = setting(1200, "steps", "pretraining steps of the prior", least=1)
    gb1_pretrain_batch: int = setting(256, "variants", "variants per pretraining step", least=1)
    gb1_floor: float = setting(
        0.01, "fitness", "fitness of variants measured below it, or not measured", above=0
    )
    gb1_calls: int = setting(800, "calls", "model calls of every method", least=1)
    gb1_batch: int = setting(128, "variants", "batch of every step", least=1)
    gb1_rate: float = setting(4e-3, "1", "Adam's rate of every method, falling linearly to 0", above=0)
    gb1_pool: int = setting(12_000, "variants", "prior samples of the weighted cross-entropy", least=1)
    gb1_methods: tuple[str, ...] = setting(GB1_METHODS, "names", "methods", among=METHODS, distinct=True)
    gb1_seeds: int = setting(3, "seeds", "tunings of every method, from one prior", least=1)
    gb1_evaluations: int = setting(2, "evaluations", "exact laws along a training", least=1)

    # --- objectives ---
    completions: int = setting(16, "draws", "M of IS", 16, least=1)
    kl_samples: int = setting(8, "draws", "K of KL", 8, least=1)
    particles: int = setting(10, "candidates", "N of SVDD, Best-of-N and SIR", 10, least=1)

    # C4, C4a-d: digits
    image_side: int = setting(
        14, "pixels", "side S of the images (the stand-in has 8)", 28, among=IMAGE_SIDES
    )
    image_symbols: int = setting(
        2, "symbols", "V: 2 for binary pixels, else the number of grey levels", 2, least=2, most=256
    )
    image_full_training_set: bool = setting(
        False, "1", "train on the 60 000 training digits where they can be had", True
    )
    image_network: str = setting("mlp", "name", "mlp or dit", "dit", among=NETWORKS)
    image_width: int = setting(256, "channels", "width of the network", "90M weights", least=1)
    image_blocks: int = setting(2, "blocks", "depth of the network", "90M weights", least=1)
    image_precision: str = setting("32-true", "name", "Lightning's precision", "bf16", among=PRECISIONS)
    image_pretrain_steps: int = setting(1400, "steps", "pretraining steps of the prior", "not found", least=1)
    image_pretrain_batch: int = setting(128, "images", "images per pretraining step", "not found", least=1)
    image_pretrain_rate: float = setting(1e-3, "1", "Adam's rate in pretraining", 4e-3, above=0)
    image_classifier_epochs: int = setting(
        12, "epochs", "epochs of the reward and of the judge, on half of the training digits each", least=1
    )
    image_exponent: float = setting(5.0, "1", "power of the target classes' probability in R", 5.0, above=0)
    image_rare_digit: int = setting(
        5, "digit", "the rarer target; -1: none (beyond the paper)", least=-1, most=9
    )
    image_methods: tuple[str, ...] = setting(
        ("kl", "is", "rtb", "lb", "weighted_ce"),
        "names",
        "objectives tuned to even digits",
        "is, lb, kl, rtb",
        among=IMAGE_METHODS,
        distinct=True,
    )
    image_rare_methods: tuple[str, ...] = setting(
        ("lb",),
        "names",
        "objectives tuned to the rarer target",
        empty=True,
        among=IMAGE_METHODS,
        distinct=True,
    )
    image_seeds: int = setting(3, "seeds", "tunings of every objective, from one prior", 3, least=1)
    image_steps: int = setting(200, "steps", "tuning steps of IS, LB and KL", "not found", least=1)
    image_batch: int = setting(64, "images", "images per tuning step", 64, least=1)
    image_rate: float = setting(3e-4, "1", "Adam's rate of IS, LB and KL", 1e-5, above=0)
    image_completions: int = setting(16, "draws", "M of IS", 16, least=1)
    image_kl_samples: int = setting(4, "draws", "K of KL", 8, least=1)
    image_refill_every: int = setting(
        25, "steps", "steps between on-policy refills of the buffer", "not found", least=1
    )
    image_refill_size: int = setting(256, "images", "images of one refill", "not found", least=1)
    image_sampling_steps: int = setting(32, "steps", "denoising steps T of every sampler", 128, least=1)
    image_rtb_steps: int = setting(
        175,
        "steps",
        "tuning steps of RTB: as many network calls as the objectives make",
        "not found",
        least=1,
    )
    image_rtb_batch: int = setting(8, "trajectories", "trajectories per step of RTB", 8, least=1)
    image_rtb_rate: float = setting(3e-4, "1", "Adam's rate of RTB", 5e-5, above=0)
    image_rtb_detached: float = setting(
        0.3, "share", "steps of a trajectory without gradient", 0.3, least=0, below=1
    )
    image_samples: int = setting(300, "images", "samples that every row is measured on", 5000, least=2)
    image_particles: int = setting(10, "particles", "N of SVDD and Best-of-N", 10, least=1)
    image_likelihood_images: int = setting(
        1000, "images", "test digits of the target that bits per dimension are measured on", "all", least=1
    )
    image_grey_levels: int = setting(
        0,
        "levels",
        "levels of the further experiment that stands for CelebA; 0: none",
        256,
        least=0,
        most=256,
    )
    image_fld_model: str = setting(
        "", "hub id", "network whose features give the FLD of row C4b; empty: not measured", "DINOv2 ViT-B/14"
    )
    # C7: sentences
    text_seeds: int = setting(
        0, "seeds", "tunings of every objective; 0 leaves the experiment out", 3, least=0
    )
    text_methods: tuple[str, ...] = setting(
        ("lb", "is", "rtb"),
        "names",
        "objectives tuned to negative sentences",
        "is, lb, rtb",
        among=TEXT_METHODS,
        distinct=True,
    )
    text_vocabulary: int = setting(1500, "words", "V, rarer words are one symbol", 50257, least=3)
    text_length: int = setting(16, "words", "n; longer sentences are left out", "not found", least=1)
    text_negative_share: float = setting(
        0.05, "share", "negative sentences in the diffusion model's training text", above=0, below=1
    )
    text_width: int = setting(128, "channels", "width of the DiT", 768, least=1)
    text_blocks: int = setting(4, "blocks", "depth of the DiT", 12, least=1)
    text_heads: int = setting(4, "heads", "attention heads", 12, least=1)
    text_precision: str = setting("32-true", "name", "Lightning's precision", "bf16", among=PRECISIONS)
    text_pretrain_steps: int = setting(3000, "steps", "pretraining steps", "85 000 (reviews)", least=1)
    text_pretrain_batch: int = setting(
        128, "sentences", "sentences per pretraining step", "not found", least=1
    )
    text_pretrain_rate: float = setting(1e-3, "1", "Adam's rate in pretraining", 4e-3, above=0)
    text_exponent: float = setting(2.0, "1", "1/beta of the reward", 2.0, above=0)
    text_steps: int = setting(1000, "steps", "tuning steps of IS and LB", "not found", least=1)
    text_batch: int = setting(16, "sentences", "sentences per tuning step", 16, least=1)
    text_rate: float = setting(1e-4, "1", "Adam's rate of IS and LB", 1e-4, above=0)
    text_warm_up: int = setting(200, "steps", "first steps of LB in which only log Z learns", 1500, least=0)
    text_completions: int = setting(16, "draws", "M of IS", 16, least=1)
    text_refill_every: int = setting(
        50, "steps", "steps between on-policy refills", "50 (stories), 5 (reviews)", least=1
    )
    text_refill_size: int = setting(256, "sentences", "sentences of one refill", "not found", least=1)
    text_rtb_steps: int = setting(1000, "steps", "tuning steps of RTB", "not found", least=1)
    text_rtb_batch: int = setting(4, "trajectories", "trajectories per step of RTB", 4, least=1)
    text_rtb_rate: float = setting(5e-5, "1", "Adam's rate of RTB", 5e-5, above=0)
    text_rtb_detached: float = setting(
        0.55,
        "share",
        "steps of a trajectory without gradient",
        "0.55 (stories), 0.785 (reviews)",
        least=0,
        below=1,
    )
    text_sampling_steps: int = setting(64, "steps", "denoising steps T of every sampler", 64, least=1)
    text_samples: int = setting(1000, "sentences", "samples that every row is measured on", 1000, least=1)
    text_particles: int = setting(10, "particles", "N of SVDD and Best-of-N", 10, least=1)
    # C6a, C6b, C7a: models of the hub
    hub_seeds: int = setting(3, "seeds", "repetitions of the experiments with models of the hub", 3, least=1)
    hub_protein_model: str = setting(
        "", "hub id or folder", "protein diffusion model; empty: experiment left out", "airkingbd/dplm_150m"
    )
    hub_folding_model: str = setting("", "hub id or folder", "structure predictor", "facebook/esmfold_v1")
    hub_protein_length: int = setting(90, "residues", "length of the proteins", 90, least=1)
    hub_protein_samples: int = setting(200, "proteins", "samples per seed", 200, least=1)
    hub_protein_steps: int = setting(10_000, "steps", "tuning steps", "not found", least=1)
    hub_shrink_targets: tuple[str, ...] = setting(
        (), "PDB files", "proteins to shrink", "9RAT-A, 11BA-A", empty=True, distinct=True
    )
    hub_text_model: str = setting(
        "", "hub id or folder", "text diffusion model; empty: experiment left out", "kuleshov-group/mdlm-owt"
    )
    hub_review_file: str = setting(
        "", "text file", "one review per line, for supervised fine-tuning", "Amazon fashion reviews"
    )
    hub_review_classifier: str = setting(
        "LiYuan/amazon-review-sentiment-analysis", "hub id or folder", "the reward", "BERT, one star"
    )
    hub_language_model: str = setting(
        "openai-community/gpt2-large", "hub id or folder", "tokenizer, and judge of fluency", "GPT-2 Large"
    )
    hub_review_length: int = setting(512, "tokens", "n", 512, least=1)
    hub_review_pretrain_steps: int = setting(85_000, "steps", "supervised fine-tuning", 85_000, least=1)
    hub_review_steps: int = setting(10_000, "steps", "tuning steps", "not found", least=1)
    hub_review_samples: int = setting(1000, "reviews", "samples per seed", 1000, least=1)

    def __post_init__(self) -> None:
        """Compare fields with one another.

        Raises:
            ParameterError: naming the setting, its value and what is allowed.
        """
        self._check_enumerated()
        self._check_images_and_text()

    def _check_enumerated(self) -> None:
        if self.grid_side % 8:
            raise ParameterError(f"grid_side={self.grid_side} must be a multiple of 8")
        if not {"IS", "LB", "KL", "RTB"} <= set(self.grid_methods):
            raise ParameterError(f"grid_methods={self.grid_methods} must hold IS, LB, KL and RTB")
        for method in self.grid_control_methods:
            if method not in self.grid_methods:
                raise ParameterError(
                    f"grid_control_methods: {method!r} is not among grid_methods={self.grid_methods}"
                )
        if "LB" not in self.gb1_methods:
            raise ParameterError(f"gb1_methods={self.gb1_methods} must hold LB")
        symbols = set(self.gb1_symbols)
        if len(symbols) != len(self.gb1_symbols) or len(symbols) < 2 or symbols - set(ALPHABET):
            raise ParameterError(
                f"gb1_symbols={shown(self.gb1_symbols)} must be two or more different letters of {ALPHABET}"
            )
        for pool, n, batch, calls in (
            ("grid_pool", 2, self.grid_batch, min(self.grid_calls, self.grid_control_calls)),
            ("gb1_pool", 4, self.gb1_batch, self.gb1_calls),
        ):
            if getattr(self, pool) * n / batch >= calls:
                raise ParameterError(
                    f"{pool}={getattr(self, pool)} costs more model calls than the budget of {calls}"
                )

    def _check_images_and_text(self) -> None:
        for network, width, heads in (
            (self.grid_network, "grid_width", self.grid_heads),
            (self.image_network, "image_width", IMAGE_HEADS),
            ("dit", "text_width", self.text_heads),
        ):
            if network == "dit" and getattr(self, width) % (2 * heads):
                raise ParameterError(
                    f"{width}={getattr(self, width)} must be a multiple of {2 * heads}, twice the DiT's heads"
                )
        if not {"is", "lb", "kl"} & set(self.image_methods):
            raise ParameterError(f"image_methods={self.image_methods} must hold is, lb or kl")
        if self.image_grey_levels == 1:
            raise ParameterError("image_grey_levels=1 must be 0 (none) or from 2 to 256")
        if self.hub_protein_model and not self.hub_folding_model:
            raise ParameterError("hub_folding_model is empty: hub_protein_model needs one")
        if self.hub_text_model and not (self.hub_language_model and self.hub_review_classifier):
            raise ParameterError("hub_text_model needs hub_language_model and hub_review_classifier")


_DEFAULT = Settings()

_SMOKE = replace(
    _DEFAULT,
    workers=1,
    # --- enumerated problems ---
    single_calls=30,
    single_batch=32,
    single_seeds=1,
    grid_side=16,
    grid_embedding=8,
    grid_width=32,
    grid_pretrain_steps=60,
    grid_pretrain_batch=64,
    grid_calls=40,
    grid_control_calls=40,
    grid_pool=500,
    grid_refill_size=128,
    grid_seeds=1,
    grid_control_seeds=1,
    grid_evaluations=2,
    string_couplings=(1.0,),
    string_calls=30,
    string_batch=32,
    string_seeds=1,
    gb1_symbols="ADGVW",
    gb1_embedding=8,
    gb1_width=32,
    gb1_pretrain_steps=60,
    gb1_pretrain_batch=64,
    gb1_calls=40,
    gb1_batch=64,
    gb1_pool=500,
    gb1_seeds=1,
    gb1_evaluations=2,
    # --- digits, sentences ---
    image_side=8,
    image_width=32,
    image_blocks=1,
    image_pretrain_steps=40,
    image_pretrain_batch=32,
    image_classifier_epochs=1,
    image_rare_methods=(),
    image_seeds=1,
    image_steps=10,
    image_batch=16,
    image_rtb_steps=3,
    image_sampling_steps=8,
    image_samples=40,
    image_particles=3,
    image_likelihood_images=50,
    image_refill_size=32,
)

_GPU = replace(
    _DEFAULT,
    workers=4,
    # --- enumerated problems ---
    grid_network="dit",
    grid_width=256,
    grid_depth=4,
    grid_pretrain_steps=2000,
    grid_pretrain_rate=3e-4,
    grid_rate=1e-3,
    grid_calls=2000,
    grid_pool=20_000,
    string_couplings=(0.0, 0.3, 1.0),
    string_calls=1500,
    gb1_pretrain_steps=4000,
    gb1_calls=4000,
    gb1_pool=40_000,
    gb1_evaluations=4,
    # --- digits, sentences ---
    image_side=28,
    image_full_training_set=True,
    image_network="dit",
    image_width=256,
    image_blocks=6,
    image_precision="bf16-mixed",
    image_pretrain_steps=2000,
    image_classifier_epochs=5,
    image_steps=300,
    image_kl_samples=8,
    image_rare_methods=("lb", "kl", "weighted_ce"),
    image_refill_every=50,
    image_refill_size=128,
    image_rtb_steps=85,
    image_sampling_steps=64,
    image_samples=500,
    image_likelihood_images=4926,
    image_grey_levels=16,
    image_fld_model="judge",
    text_seeds=3,
    text_width=512,
    text_blocks=8,
    text_heads=8,
)

_PAPER = replace(
    _GPU,
    checkpoint_every=1000,
    # --- enumerated problems ---
    grid_width=768,
    grid_depth=12,
    grid_heads=12,
    grid_pretrain_steps=20_000,
    grid_calls=20_000,
    grid_control_calls=20_000,
    grid_rate=4e-3,
    grid_buffer=10_000,
    gb1_calls=20_000,
    # --- digits, models of the hub ---
    image_width=768,
    image_blocks=12,
    image_pretrain_steps=200_000,
    image_pretrain_rate=3e-4,
    image_classifier_epochs=20,
    image_steps=10_000,
    image_rate=1e-5,
    image_refill_every=25,
    image_rtb_steps=2000,
    image_rtb_rate=5e-5,
    image_sampling_steps=128,
    image_samples=5000,
    image_fld_model="facebook/dinov2-base",
    hub_protein_model="airkingbd/dplm_150m",
    hub_folding_model="facebook/esmfold_v1",
    hub_text_model="kuleshov-group/mdlm-owt",
)

PROFILES: dict[str, Settings] = {"smoke": _SMOKE, "default": _DEFAULT, "gpu": _GPU, "paper": _PAPER}
