//! safetensors, as the checkpoints are read: the crate's header, then candle's tensors.
#![no_main]

use candle_core::Device;
use candle_core::safetensors::Load;
use safetensors::SafeTensors;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let _ = SafeTensors::read_metadata(file);
    if let Ok(tensors) = SafeTensors::deserialize(file) {
        for (_, view) in tensors.tensors() {
            let _ = view.load(&Device::Cpu);
        }
    }
});
