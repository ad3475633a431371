// What stands between the projections: h = act(gate) * (up + UP_OFFSET), in fp32, before any rounding.

// exp overflows to infinity for a gate far below zero: the quotient is then -0, as it should.
#ifndef SWISH // a micro-kernel may bring an approximation
#define SWISH(gate, beta) ((gate) / (1.0f + exp(-(beta) * (gate))))
#endif
inline float act_swiglu(float gate) { return SWISH(gate, BETA); }
inline float act_geglu_tanh(float gate)
{
    return 0.5f * gate * (1.0f + tanh(0.7978845608028654f * (gate + 0.044715f * gate * gate * gate)));
}
inline float act_geglu_erf(float gate) { return 0.5f * gate * (1.0f + erf(gate * 0.7071067811865476f)); }
inline float act_reglu(float gate) { return gate < 0.0f ? 0.0f : gate; }

// LIMIT is infinite where nothing is clamped. NaNs pass: fmin and clamp would hide them.
inline float activate(float gate, float up)
{
    gate = gate > LIMIT ? LIMIT : gate;
    up = up > LIMIT ? LIMIT : up < -LIMIT ? -LIMIT : up;
    return CAT(act_, ACTIVATION)(gate) * (up + UP_OFFSET);
}
