use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::VarBuilder;
use candle_nn::init::{Init, NormalOrUniform};
use candle_nn::var_builder::SimpleBackend;
use dml_ops::init::{constant, normal, uniform};
use dml_rand::{Purpose, Stream, hash};

use crate::{NameMismatch, Result};

/// The named parameters of a network, in the order of their names.
///
/// A parameter comes into being when a network built with [`Params::builder`] asks for it first. Its initial
/// value is drawn from the stream keyed by the seed and the parameter's full name, so it depends neither on
/// the order of creation nor on what other parameters there are. Clones share the parameters.
///
/// Names that end in `running_mean` or `running_var` are *buffers*, as in PyTorch: saved and loaded like the
/// rest, but no variable to train.
///
/// ```
/// use candle_core::Device;
/// use dml_model::{NetConfig, Params, MultiTaskNet, RootConfig};
///
/// let config = NetConfig {
///     root: RootConfig::Features { input: 3, hidden: 2, dropout: 0.5 },
///     heads: Default::default(),
/// };
/// let params = Params::new(7, &Device::Cpu);
/// MultiTaskNet::new(&config, params.builder())?;
/// let names: Vec<String> = params.vars().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["root.fc6.bias", "root.fc6.weight", "root.fc7.bias", "root.fc7.weight"]);
/// # Ok::<(), dml_model::ModelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Params {
    seed: u64,
    dtype: DType,
    device: Device,
    store: Arc<Mutex<BTreeMap<String, Var>>>,
}

impl Params {
    /// No parameters yet; those to come are f32 on this device.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self::with_dtype(seed, DType::F32, device)
    }

    /// No parameters yet; those to come have this type, f32 or f64. Both hold the same draws.
    pub fn with_dtype(seed: u64, dtype: DType, device: &Device) -> Self {
        Self { seed, dtype, device: device.clone(), store: Arc::default() }
    }

    /// A builder that makes a parameter at its first request and hands out the same one thereafter.
    pub fn builder(&self) -> VarBuilder<'static> {
        self.builder_frozen(&[])
    }

    /// As [`Params::builder`], but parameters whose name begins with one of these prefixes are handed out as
    /// constants: a network built so computes no gradient for them, and sees their present value at any time.
    pub fn builder_frozen(&self, prefixes: &[&str]) -> VarBuilder<'static> {
        let frozen = prefixes.iter().map(|prefix| prefix.to_string()).collect();
        let backend = Backend { params: self.clone(), frozen };
        VarBuilder::from_backend(Box::new(backend), self.dtype, self.device.clone())
    }

    /// The device of the parameters.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type of the parameters.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The trainable variables (no buffers), by name.
    pub fn vars(&self) -> Vec<(String, Var)> {
        self.vars_except(&[])
    }

    /// The trainable variables, by name, without those whose name begins with one of these prefixes:
    /// `"root."` leaves the heads, `"root.trunk."` all but a pretrained trunk.
    pub fn vars_except(&self, prefixes: &[&str]) -> Vec<(String, Var)> {
        let kept = |name: &str| !is_buffer(name) && !prefixes.iter().any(|prefix| name.starts_with(prefix));
        let store = self.lock();
        store.iter().filter(|(name, _)| kept(name)).map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// All parameters and buffers, detached. They share storage with the variables, so they change with
    /// training; for a copy that does not, see [`Params::copy_frozen`].
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.lock().iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
    }

    /// Detached copies of all parameters and buffers, which training does not change.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn copy_frozen(&self) -> Result<BTreeMap<String, Tensor>> {
        self.lock().iter().map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().copy()?))).collect()
    }

    /// Sets every parameter and buffer, converting between floating-point types and devices. Build the
    /// network first: it says which parameters there are.
    ///
    /// # Errors
    /// If a name is missing, extra or of another shape: one error lists them all, and nothing was changed.
    pub fn load(&self, tensors: BTreeMap<String, Tensor>) -> Result<()> {
        self.load_where(|_| true, tensors)
    }

    /// Sets the parameters and buffers below `prefix`, say those of a pretrained root: the tensor
    /// `conv1.weight` goes to `{prefix}.conv1.weight`. As strict as [`Params::load`] below the prefix; the
    /// rest stays as it is.
    ///
    /// # Errors
    /// As [`Params::load`].
    pub fn load_under(&self, prefix: &str, tensors: BTreeMap<String, Tensor>) -> Result<()> {
        let prefix = format!("{}.", prefix.trim_end_matches('.'));
        let full = tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
        self.load_where(|name| name.starts_with(&prefix), full)
    }

    fn load_where(&self, wanted: impl Fn(&str) -> bool, tensors: BTreeMap<String, Tensor>) -> Result<()> {
        let store = self.lock();
        let mut mismatch = NameMismatch {
            missing: store
                .keys()
                .filter(|name| wanted(name) && !tensors.contains_key(*name))
                .cloned()
                .collect(),
            ..NameMismatch::default()
        };
        for (name, tensor) in &tensors {
            match store.get(name) {
                None => mismatch.extra.push(name.clone()),
                Some(var) if var.dims() != tensor.dims() => mismatch.misshapen.push(format!(
                    "{name}: {:?} in the checkpoint, {:?} in the network",
                    tensor.dims(),
                    var.dims()
                )),
                Some(_) if !tensor.dtype().is_float() => {
                    mismatch.misshapen.push(format!(
                        "{name}: holds {} values, not floating-point",
                        tensor.dtype().as_str()
                    ));
                }
                Some(_) => {}
            }
        }
        if !mismatch.is_empty() {
            return Err(mismatch.into());
        }
        for (name, tensor) in tensors {
            if let Some(var) = store.get(&name) {
                // `copy`: a variable refuses a tensor that shares its storage, as one of `tensors()` does.
                var.set(&tensor.to_device(&self.device)?.to_dtype(var.dtype())?.copy()?)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        // A panic elsewhere leaves whole variables behind: nothing in here is ever half-written.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A builder of constants from named tensors, for a network that is not trained.
pub(crate) fn constants(
    tensors: BTreeMap<String, Tensor>,
    dtype: DType,
    device: &Device,
) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors.into_iter().collect::<HashMap<_, _>>(), dtype, device)
}

fn is_buffer(name: &str) -> bool {
    name.ends_with("running_mean") || name.ends_with("running_var")
}

struct Backend {
    params: Params,
    frozen: Vec<String>,
}

impl Backend {
    fn hand_out(&self, name: &str, var: &Var) -> Tensor {
        if is_buffer(name) || self.frozen.iter().any(|prefix| name.starts_with(prefix.as_str())) {
            var.as_detached_tensor()
        } else {
            var.as_tensor().clone()
        }
    }
}

impl SimpleBackend for Backend {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut store = self.params.lock();
        if let Some(var) = store.get(name) {
            if var.shape() != &shape {
                candle_core::bail!("parameter {name} has shape {:?}, not {shape:?}", var.shape());
            }
            return Ok(self.hand_out(name, var));
        }
        let mut stream = Stream::new(self.params.seed, Purpose::Init, 0, hash(name));
        let var = Var::from_tensor(&initial(&shape, init, &mut stream, dtype, device)?)?;
        let tensor = self.hand_out(name, &var);
        store.insert(name.to_string(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        match self.params.lock().get(name) {
            Some(var) => Ok(self.hand_out(name, var)),
            None => candle_core::bail!("no parameter {name}; ask for it with a shape to make it"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.params.lock().contains_key(name)
    }
}

/// candle's initialisers draw from a generator that cannot be seeded on the CPU; these are the same distributions.
fn initial(
    shape: &Shape,
    init: Init,
    stream: &mut Stream,
    dtype: DType,
    device: &Device,
) -> dml_ops::Result<Tensor> {
    match init {
        Init::Const(value) => constant(shape, value, dtype, device),
        Init::Randn { mean, stdev } => normal(shape, (mean, stdev), stream, dtype, device),
        Init::Uniform { lo, up } => uniform(shape, (lo, up), stream, dtype, device),
        Init::Kaiming { dist, fan, non_linearity } => {
            let stdev = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => normal(shape, (0.0, stdev), stream, dtype, device),
                NormalOrUniform::Uniform => {
                    let bound = 3f64.sqrt() * stdev;
                    uniform(shape, (-bound, bound), stream, dtype, device)
                }
            }
        }
    }
}
