/// What follows a layer's sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// The larger of x and 0; the gradient at 0 is 0.
    Relu,
    /// x, at least 0 and at most 6; the gradient is 1 strictly between them, 0 elsewhere.
    Relu6,
}
