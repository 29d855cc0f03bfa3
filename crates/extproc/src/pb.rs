//! The messages of Envoy and of gRPC's health service, as generated from `proto/`: a small subset of theirs
//! with their numbers, bodies as [`bytes::Bytes`]. Nothing here is written by hand; used by every module that
//! speaks with Envoy, and public for clients in tests.

#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]

/// Envoy's packages.
pub mod envoy {
    pub mod config {
        pub mod core {
            #[rustfmt::skip]
            pub mod v3;
        }
    }
    pub mod extensions {
        pub mod filters {
            pub mod http {
                pub mod ext_proc {
                    #[rustfmt::skip]
                    pub mod v3;
                }
            }
        }
    }
    pub mod service {
        pub mod ext_proc {
            #[rustfmt::skip]
            pub mod v3;
        }
    }
    pub mod r#type {
        #[rustfmt::skip]
        pub mod v3;
    }
}

/// gRPC's packages.
pub mod grpc {
    pub mod health {
        #[rustfmt::skip]
        pub mod v1;
    }
}
