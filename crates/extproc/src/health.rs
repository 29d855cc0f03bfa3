//! Health as gRPC probes ask for it, under the service names of both worlds (llm-d's and the reference picker's).
//! Says what it was told; deciding about readiness is the binary's.

use crate::pb::grpc::health::v1::health_check_response::ServingStatus;
use crate::pb::grpc::health::v1::health_server::{Health as Service, HealthServer};
use crate::pb::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use futures_util::stream::{self, StreamExt};
use std::pin::Pin;
use tokio::sync::watch;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// Answers as long as the process does.
const LIVENESS: &str = "liveness";
/// Names of readiness: the whole server, llm-d's probe, the protocol's service, the reference picker's probe.
const READINESS: [&str; 4] =
    ["", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor", "inference-extension"];

/// Whether requests are welcome; clones share it. Begins as not ready.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<bool>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Health {
    /// From now on probes hear this.
    pub fn set_ready(&self, ready: bool) {
        self.0.send_if_modified(|now| std::mem::replace(now, ready) != ready);
    }

    /// What probes hear.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) fn service(&self) -> HealthServer<Self> {
        HealthServer::new(self.clone())
    }
}

fn answer(service: &str, ready: bool) -> HealthCheckResponse {
    let status = match service {
        LIVENESS => ServingStatus::Serving,
        name if !READINESS.contains(&name) => ServingStatus::ServiceUnknown,
        _ if ready => ServingStatus::Serving,
        _ => ServingStatus::NotServing,
    };
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl Service for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(answer(&request.get_ref().service, self.is_ready())))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let ready = self.is_ready();
        let names = READINESS.iter().chain([&LIVENESS]);
        let statuses = names.map(|name| ((*name).to_owned(), answer(name, ready))).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let mut changes = self.0.subscribe();
        changes.mark_changed();
        let news = stream::unfold((changes, service), |(mut changes, service)| async move {
            changes.changed().await.ok()?;
            let now = answer(&service, *changes.borrow_and_update());
            Some((Ok(now), (changes, service)))
        });
        Ok(Response::new(news.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_worlds() {
        let (unknown, serving, not) = (3, 1, 2);
        for name in READINESS {
            assert_eq!([answer(name, false).status, answer(name, true).status], [not, serving], "{name}");
        }
        assert_eq!([answer(LIVENESS, false).status, answer("other", true).status], [serving, unknown]);
    }
}
