"""Names of the compared diffusion samplers, of the compared samplers of strings, and of the design tasks."""

SAMPLER_METHODS = ("PIS", "VarGrad", "TB", "ε-noisy", "PER", "Teacher")
"""In the order in which runs are stacked: what shares a step lies side by side."""

MIXING = 0.5
"""α of the Teacher's reward in the released diffusion code."""

SEQUENCE_METHODS = ("TB", "Teacher", "PRT", "PER", "Teacher + PRT", "Teacher + PER")

COMPARED = ("PRT", "Teacher + PRT")
"""What C4a compares."""

TASK_NAMES = ("TFBind8", "QM9", "sEH", "L14-RNA1", "L14-RNA2", "L14-RNA3")
