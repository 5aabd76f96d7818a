//! Compiles the CUDA kernels, where they are asked for, with the tool that candle compiles its own with.

#[cfg(feature = "cuda")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=cuda");
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let kernels = cudaforge::KernelBuilder::new().source_files(["cuda/ops.cu"]).arg("-O3").arg("-std=c++17");
    kernels.build_ptx()?.write(out.join("ptx.rs"))?;
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
