//! Tells the program where libtorch is: no library search path reaches what cargo starts.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = std::env::var_os("LIBTORCH").filter(|_| cfg!(feature = "torch"));
    if let Some(path) = libtorch {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}/lib", path.display());
    }
}
