use std::collections::BTreeMap;

use candle_core::Tensor;

use super::STAGES;
use crate::{NameMismatch, Result};

/// The trunk's weights of a checkpoint with lukemelas's names, which are
/// [`EfficientNetLite0`](super::EfficientNetLite0)'s: drops the classifier and the counters of batches, and
/// leaves the judgement of other names to the loading.
pub fn from_lukemelas(mut tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    tensors.retain(|name, _| !name.starts_with("_fc.") && !name.ends_with("num_batches_tracked"));
    tensors
}

/// The trunk's weights of a checkpoint with timm's names (`conv_stem.weight`, `blocks.1.0.conv_pw.weight`,
/// …), renamed; drops the classifier and the counters of batches.
///
/// # Errors
/// If other names are in no table: one error lists them.
pub fn from_timm(tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let table = timm_layers();
    let mut renamed = BTreeMap::new();
    let mut unknown = NameMismatch::default();
    for (name, tensor) in tensors {
        if name.starts_with("classifier.") || name.ends_with("num_batches_tracked") {
            continue;
        }
        let ours =
            name.rsplit_once('.').and_then(|(layer, leaf)| Some(format!("{}.{leaf}", table.get(layer)?)));
        match ours {
            Some(ours) => drop(renamed.insert(ours, tensor)),
            None => unknown.extra.push(name),
        }
    }
    if unknown.is_empty() { Ok(renamed) } else { Err(unknown.into()) }
}

/// timm's layer names and ours. timm numbers the blocks within each stage, and calls the first stage's
/// projection `conv_pw` because that stage does not expand.
fn timm_layers() -> BTreeMap<String, String> {
    let mut table: BTreeMap<String, String> =
        [("conv_stem", "_conv_stem"), ("bn1", "_bn0"), ("conv_head", "_conv_head"), ("bn2", "_bn1")]
            .map(|(timm, ours)| (timm.into(), ours.into()))
            .into();
    let plain =
        [("conv_dw", "_depthwise_conv"), ("bn1", "_bn1"), ("conv_pw", "_project_conv"), ("bn2", "_bn2")];
    let expanding = [
        ("conv_pw", "_expand_conv"),
        ("bn1", "_bn0"),
        ("conv_dw", "_depthwise_conv"),
        ("bn2", "_bn1"),
        ("conv_pwl", "_project_conv"),
        ("bn3", "_bn2"),
    ];
    let mut block = 0;
    for (stage, (_, _, expansion, _, repeats)) in STAGES.into_iter().enumerate() {
        for repeat in 0..repeats {
            let layers: &[_] = if expansion == 1 { &plain } else { &expanding };
            for (timm, ours) in layers {
                table.insert(format!("blocks.{stage}.{repeat}.{timm}"), format!("_blocks.{block}.{ours}"));
            }
            block += 1;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::{EfficientNetLite0, Params};

    #[test]
    fn timm_names_cover_the_trunk() {
        let params = Params::new(0, &Device::Cpu);
        EfficientNetLite0::new(params.builder()).unwrap();
        let table = timm_layers();
        let timm: BTreeMap<String, String> =
            table.iter().map(|(timm, ours)| (ours.clone(), timm.clone())).collect();
        let mut theirs: BTreeMap<String, Tensor> = params
            .tensors()
            .into_iter()
            .map(|(name, tensor)| {
                let (layer, leaf) = name.rsplit_once('.').unwrap();
                (format!("{}.{leaf}", timm[layer]), tensor)
            })
            .collect();
        assert!(
            theirs.contains_key("blocks.0.0.conv_pw.weight")
                && theirs.contains_key("blocks.5.3.bn3.running_var")
        );
        let fc = params.tensors()["_bn0.bias"].clone();
        theirs.insert("classifier.bias".into(), fc.clone());
        theirs.insert("bn1.num_batches_tracked".into(), fc.clone());
        let ours = from_timm(theirs.clone()).unwrap();
        assert!(ours.keys().eq(params.tensors().keys()));
        params.load(ours).unwrap();

        theirs.insert("blocks.9.0.bn1.bias".into(), fc);
        let error = from_timm(theirs).unwrap_err().to_string();
        assert!(error.contains("1 extra:\n  blocks.9.0.bn1.bias"), "{error}");
    }
}
