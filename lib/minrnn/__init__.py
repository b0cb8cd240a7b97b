"""Were RNNs All We Needed? (Feng et al., 2024, arXiv:2410.01201v2).

Method: :mod:`lib.minrnn.scan` (the recurrence h_t = a_t h_{t-1} + b_t and its engines), :mod:`lib.minrnn.mixers`
(minGRU, minLSTM and what they are compared with), :mod:`lib.minrnn.blocks` (the residual stack around a mixer).
"""
