use std::collections::BTreeMap;

use candle_core::{DType, Device, Shape, Tensor, Var};

use crate::kernel::adam::{Item, Moments, Step};
use crate::{OpError, Result, cuda};

/// Decay rates of the moments, and the constant in the denominator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Of the first moment.
    pub beta1: f64,
    /// Of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

impl Default for AdamConfig {
    /// 0.9, 0.999 and 1e-8.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// Adam (Kingma and Ba, ICLR 2015, algorithm 1) as in torch, without weight decay. Each parameter counts its own
/// steps, and the whole state can be saved and restored.
///
/// On the CPU, and on a GPU in f32, a parameter is updated in place, in one pass over parameter, gradient and moments: tensors that share
/// the variable's memory see the new values.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    parameters: BTreeMap<String, Parameter>,
}

impl Adam {
    /// An optimiser that has made no step.
    pub fn new(config: AdamConfig) -> Self {
        Self { config, parameters: BTreeMap::new() }
    }

    /// One step of the parameter of this name.
    ///
    /// # Shapes
    /// `gradient` has the variable's shape.
    ///
    /// # Errors
    /// If the gradient's shape, type or device is not the variable's, or the variable's not that of its moments.
    pub fn update(&mut self, name: &str, var: &Var, gradient: &Tensor, learning_rate: f64) -> Result<()> {
        self.update_all(&[(name, var, gradient, learning_rate)])
    }

    /// One step of each of these parameters: its name, the variable, its gradient, the learning rate. On a GPU one kernel
    /// does up to 48 of them.
    ///
    /// # Errors
    /// As [`Adam::update`].
    pub fn update_all(&mut self, parameters: &[(&str, &Var, &Tensor, f64)]) -> Result<()> {
        let mut together = Vec::new();
        for &(name, var, gradient, learning_rate) in parameters {
            let step = self.next_step(name, var, gradient, learning_rate)?;
            let Some(Parameter { moments, .. }) = self.parameters.get_mut(name) else { continue };
            match moments.on_gpu(var) {
                Some(moments) => together.push((var, gradient.detach().contiguous()?, moments, step)),
                None => moments.update(var, &gradient.detach(), step)?,
            }
        }
        let items: Vec<Item> = together
            .iter()
            .map(|(var, gradient, [m, v], step)| Item {
                parameter: var,
                gradient,
                moments: [m, v],
                step: *step,
            })
            .collect();
        Ok(cuda::update(&items)?)
    }

    /// Counts a parameter's step, and answers its numbers.
    fn next_step(&mut self, name: &str, var: &Var, gradient: &Tensor, learning_rate: f64) -> Result<Step> {
        if gradient.shape() != var.shape() || gradient.dtype() != var.dtype() {
            let found = format!("{:?} {:?}", gradient.dtype(), gradient.dims());
            let problem = format!("of {name} must be {:?} {:?}, is {found}", var.dtype(), var.dims());
            return Err(OpError::argument("Adam", "gradient", problem));
        }
        if !self.parameters.contains_key(name) {
            self.parameters.insert(name.to_owned(), Parameter::new(var)?);
        }
        let wrong = |problem| OpError::State { name: name.to_owned(), problem };
        let Some(parameter) = self.parameters.get_mut(name) else { return Err(wrong("is missing".into())) };
        if parameter.shape != *var.shape() || !parameter.moments.fit(var) {
            let problem = format!("is {:?} {:?}, its moments are not", var.dtype(), var.dims());
            return Err(wrong(problem));
        }
        parameter.step += 1;
        let AdamConfig { beta1, beta2, eps } = self.config;
        let correction = |beta: f64| 1.0 - beta.powf(parameter.step as f64);
        Ok(Step {
            beta1,
            beta2,
            eps,
            rate: learning_rate / correction(beta1),
            root: correction(beta2).sqrt(),
        })
    }

    /// The moments and step counts: `{name}.m` and `{name}.v` of the parameter's shape and type, `{name}.step` an i64
    /// scalar. The tensors are copies.
    ///
    /// # Errors
    /// If there is no room for the copies.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for (name, Parameter { step, shape, moments }) in &self.parameters {
            let (m, v) = moments.tensors(shape)?;
            state.insert(format!("{name}.m"), m);
            state.insert(format!("{name}.v"), v);
            state.insert(format!("{name}.step"), Tensor::new(*step as i64, &Device::Cpu)?);
        }
        Ok(state)
    }

    /// The optimiser that [`Adam::state`] was called on. The next step fails where a parameter does not fit.
    ///
    /// # Errors
    /// If an entry is missing, has another name, or is of another shape or type.
    pub fn from_state(config: AdamConfig, mut state: BTreeMap<String, Tensor>) -> Result<Self> {
        let names: Vec<String> =
            state.keys().filter_map(|key| key.strip_suffix(".step")).map(Into::into).collect();
        let mut parameters = BTreeMap::new();
        for name in names {
            let mut take = |entry: &str| {
                let key = format!("{name}.{entry}");
                state.remove(&key).ok_or(OpError::State { name: key, problem: "is missing".into() })
            };
            let (step, m, v) = (take("step")?, take("m")?, take("v")?);
            if m.shape() != v.shape() || m.dtype() != v.dtype() {
                return Err(OpError::State {
                    name,
                    problem: "has moments of different shapes or types".into(),
                });
            }
            let step = step.to_dtype(DType::I64)?.to_scalar::<i64>()?;
            let Ok(step) = u64::try_from(step) else {
                return Err(OpError::State { name, problem: format!("has a step count of {step}") });
            };
            let parameter = Parameter { step, shape: m.shape().clone(), moments: Moments::new(&m, &v)? };
            parameters.insert(name, parameter);
        }
        match state.into_keys().next() {
            Some(name) => Err(OpError::State { name, problem: "belongs to no parameter".into() }),
            None => Ok(Self { config, parameters }),
        }
    }
}

/// What is kept of one parameter.
#[derive(Debug)]
struct Parameter {
    step: u64,
    shape: Shape,
    moments: Moments,
}

impl Parameter {
    fn new(var: &Var) -> Result<Self> {
        let zeros = var.zeros_like()?.detach();
        Ok(Self { step: 0, shape: var.shape().clone(), moments: Moments::new(&zeros, &zeros)? })
    }
}
