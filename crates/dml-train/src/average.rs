use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use dml_model::{MultiTaskNet, NetConfig, Params};

use crate::{Result, TrainError};

/// The exponential moving average of a network's parameters over the steps, which teaches (mean teacher: Tarvainen and
/// Valpola, NIPS 2017) or is evaluated in the network's place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ema {
    /// Weight of the average before a step; 1 less it is that of the parameters after it. While few steps have been made the
    /// weight is less: (1 + t) / (10 + t) after t steps. 0 is the network itself.
    pub decay: f64,
    /// Whether evaluations, and the network that the run leaves, are of the average.
    pub evaluate: bool,
}

impl Default for Ema {
    /// 0.999, which only teaches.
    fn default() -> Self {
        Self { decay: 0.999, evaluate: false }
    }
}

impl Ema {
    /// An error unless the decay is in [0, 1].
    pub(crate) fn check(&self) -> Result<()> {
        match (0.0..=1.0).contains(&self.decay) {
            true => Ok(()),
            false => Err(TrainError::invalid(format!(
                "the decay of the moving average is {}, not in [0, 1]",
                self.decay
            ))),
        }
    }
}

/// A network with the average of another's parameters.
pub(crate) struct Average {
    decay: f64,
    /// Steps of which it is the average.
    updates: usize,
    params: Params,
    net: Arc<MultiTaskNet>,
}

impl Average {
    /// The average before the first step: the parameters as they are.
    pub(crate) fn new(config: &NetConfig, of: &Params, decay: f64) -> Result<Self> {
        let params = Params::with_dtype(0, of.dtype(), of.device());
        // Constants that share the memory of the parameters: no gradient reaches them, and the network sees every update.
        let net = Arc::new(MultiTaskNet::new(config, params.builder_frozen(&[""]))?);
        let mut average = Self { decay, updates: 0, params, net };
        average.load(of.tensors(), 0)?;
        Ok(average)
    }

    /// Takes the parameters after a step into the average.
    pub(crate) fn update(&mut self, of: &Params) -> Result<()> {
        let steps = self.updates as f64;
        let decay = self.decay.min((1.0 + steps) / (10.0 + steps));
        let new = of.vars();
        for ((_, average), (_, new)) in self.params.vars().into_iter().zip(new) {
            average.set(
                &((average.as_tensor() * decay)? + (new.as_detached_tensor() * (1.0 - decay))?)?.detach(),
            )?;
        }
        self.updates += 1;
        Ok(())
    }

    /// Puts other parameters in the average's place, which stand for so many steps.
    pub(crate) fn load(&mut self, tensors: BTreeMap<String, Tensor>, updates: usize) -> Result<()> {
        self.params.load(tensors)?;
        self.updates = updates;
        Ok(())
    }

    pub(crate) fn updates(&self) -> usize {
        self.updates
    }

    /// The averaged parameters, which change with the next update.
    pub(crate) fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.params.tensors()
    }

    pub(crate) fn net(&self) -> &Arc<MultiTaskNet> {
        &self.net
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use dml_model::{Mode, RootConfig};

    use super::*;

    #[test]
    fn the_average_is_that_by_hand_and_its_network_sees_it() {
        let config = NetConfig {
            root: RootConfig::Features { input: 2, hidden: 2, dropout: 0.5 },
            heads: BTreeMap::new(),
        };
        let params = Params::new(1, &Device::Cpu);
        MultiTaskNet::new(&config, params.builder()).unwrap();
        let values = |tensors: BTreeMap<String, Tensor>| -> Vec<f32> {
            tensors.into_values().flat_map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
        };
        let input = Tensor::new(&[[1f32, -2.0]], &Device::Cpu).unwrap();
        for decay in [0.0, 0.15, 0.999] {
            let mut average = Average::new(&config, &params, decay).unwrap();
            let mut expected = values(params.tensors());
            for step in 0..4 {
                for (number, (_, var)) in params.vars().into_iter().enumerate() {
                    var.set(&(var.as_tensor() * (0.3 + 0.2 * (number + step) as f64)).unwrap()).unwrap();
                }
                average.update(&params).unwrap();
                // 0.1, 2/11, 3/12, 4/13: the decay grows into what it is to be.
                let now = [0.1f64, 2.0 / 11.0, 0.25, 4.0 / 13.0][step].min(decay);
                for (old, new) in expected.iter_mut().zip(values(params.tensors())) {
                    *old = (now * f64::from(*old) + (1.0 - now) * f64::from(new)) as f32;
                }
                let got = values(average.tensors());
                assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {expected:?}");
            }
            assert_eq!(decay == 0.0, values(average.tensors()) == values(params.tensors()));
            let frozen = MultiTaskNet::frozen(&config, average.tensors(), &Device::Cpu).unwrap();
            let answer =
                |net: &MultiTaskNet| net.features(&input, &Mode::Eval).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(answer(average.net()), answer(&frozen));
        }
        for decay in [-0.1, 1.1, f64::NAN] {
            assert!(Ema { decay, ..Ema::default() }.check().unwrap_err().to_string().contains("decay"));
        }
    }
}
