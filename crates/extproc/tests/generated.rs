//! `src/pb` is what `proto` says. `WAYPOST_REGENERATE=1 cargo test -p waypost-extproc --test generated` writes it.

use std::path::Path;
use std::{env, fs};

/// Packages with messages, and where their code stands below `src/pb`.
const PACKAGES: [(&str, &str); 5] = [
    ("envoy.config.core.v3", "envoy/config/core/v3.rs"),
    ("envoy.extensions.filters.http.ext_proc.v3", "envoy/extensions/filters/http/ext_proc/v3.rs"),
    ("envoy.r#type.v3", "envoy/type/v3.rs"),
    ("envoy.service.ext_proc.v3", "envoy/service/ext_proc/v3.rs"),
    ("grpc.health.v1", "grpc/health/v1.rs"),
];
const HEADING: &str =
    "//! Generated from `proto/`; `tests/generated.rs` compares and rewrites it. Not to be edited.\n\n";

#[test]
fn checked_in_code_is_what_the_protos_say() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let protos = ["envoy/service/ext_proc/v3/external_processor.proto", "grpc/health/v1/health.proto"];
    let set = protox::compile(protos, [here.join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .out_dir(out.path())
        .compile_fds(set)
        .unwrap();
    for (package, file) in PACKAGES {
        let fresh = fs::read_to_string(out.path().join(format!("{package}.rs"))).unwrap();
        let fresh = format!("{HEADING}{fresh}");
        let file = here.join("src/pb").join(file);
        if env::var_os("WAYPOST_REGENERATE").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &fresh).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == fresh, "{} differs from proto/: run with WAYPOST_REGENERATE=1", file.display());
    }
}
