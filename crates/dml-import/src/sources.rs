//! Where published weights come from and what they call their tensors: one table a source, and no code.

/// A network's layers, in order, under the names of dml-model. Each has a weight and a bias.
pub(crate) struct Network {
    pub(crate) name: &'static str,
    pub(crate) layers: &'static [&'static str],
    /// Axes of a convolution's kernel.
    pub(crate) kernel: usize,
    /// Values of a channel that reach fc6: what the last pool leaves of height, width and time. Every source
    /// flattens channel by channel, (C, T, H, W) or (C, H, W), so the columns of fc6 need no reordering.
    pub(crate) pooled: usize,
    /// What the network's input is: no source differs, so no channel is swapped.
    pub(crate) input: &'static str,
    pub(crate) sources: &'static [Source],
}

/// The last layer may be missing: a root does not have it, and some files neither.
pub(crate) const CLASSIFIER: &str = "fc8";

/// What kind of file a source is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    Torch,
    /// A pickle of numpy arrays; the k-th pair of arrays is called `k.W` and `k.b`.
    Pickle,
    Caffe,
}

/// One publication of a network's weights.
pub(crate) struct Source {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// Its names of the network's layers, in the same order.
    pub(crate) layers: &'static [&'static str],
    /// What it appends for the weight and the bias.
    pub(crate) leaves: [&'static str; 2],
    /// Whether fully connected weights are (inputs, outputs), so that they are to be transposed.
    pub(crate) inputs_first: bool,
}

const TORCH: [&str; 2] = [".weight", ".bias"];
/// Caffe stores fully connected weights as (1, 1, outputs, inputs), biases as (1, 1, 1, outputs).
const CAFFE: [&str; 2] = [".0", ".1"];
/// Lasagne's dense weights are (inputs, outputs). Its cuDNN convolutions correlate, as torch's do: no flip.
const LASAGNE: [&str; 2] = [".W", ".b"];
const BGR: &str = "BGR, 0 to 255, minus the mean";

/// C3D, trained on Sports-1M (Tran et al. 2015).
pub(crate) const C3D: Network = Network {
    name: "C3D",
    layers: &[
        "conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7",
        CLASSIFIER,
    ],
    kernel: 3,
    pooled: 16,
    input: BGR,
    sources: &[
        Source {
            name: "c3d.pickle (DavideA/c3d-pytorch)",
            form: Form::Torch,
            layers: &[
                "conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7",
                "fc8",
            ],
            leaves: TORCH,
            inputs_first: false,
        },
        Source {
            name: "c3d-pretrained.pth (jfzhang95/pytorch-video-recognition)",
            form: Form::Torch,
            layers: &[
                "features.0",
                "features.3",
                "features.6",
                "features.8",
                "features.11",
                "features.13",
                "features.16",
                "features.18",
                "classifier.0",
                "classifier.3",
                "classifier.6",
            ],
            leaves: TORCH,
            inputs_first: false,
        },
        Source {
            name: "c3d_model.pkl (Lasagne/Recipes)",
            form: Form::Pickle,
            layers: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"],
            leaves: LASAGNE,
            inputs_first: true,
        },
        Source {
            name: "conv3d_deepnetA_sport1m_iter_1900000 (Caffe, facebookarchive/C3D)",
            form: Form::Caffe,
            layers: &[
                "conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6-1",
                "fc7-1", "fc8-1",
            ],
            leaves: CAFFE,
            inputs_first: false,
        },
    ],
};

/// VGG-S, that is `VGG_CNN_S`, trained on ImageNet (Chatfield et al. 2014).
pub(crate) const VGG_S: Network = Network {
    name: "VGG-S",
    layers: &["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", CLASSIFIER],
    kernel: 2,
    pooled: 36,
    input: BGR,
    sources: &[
        Source {
            name: "VGG_CNN_S.caffemodel (Caffe)",
            form: Form::Caffe,
            layers: &["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"],
            leaves: CAFFE,
            inputs_first: false,
        },
        Source {
            name: "vgg_cnn_s.pkl (Lasagne/Recipes)",
            form: Form::Pickle,
            layers: &["0", "1", "2", "3", "4", "5", "6", "7"],
            leaves: LASAGNE,
            inputs_first: true,
        },
    ],
};
