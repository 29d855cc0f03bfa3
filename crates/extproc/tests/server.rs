//! The listener: TLS, health, limits, and the end.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as loudly as tests")]

mod common;
use common::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tonic::codegen::tokio_stream::StreamExt;
use tonic::{Code, Request, Streaming};
use waypost_extproc::pb::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use waypost_extproc::{Certificate, Closing, Options, TlsError, serve_health};

const CLOSING: Closing = Closing { delay: Duration::from_millis(200), grace: Duration::from_secs(5) };

async fn probe(client: &Client, service: &str) -> i32 {
    let mut grpc = tonic::client::Grpc::new(client.clone());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = Request::new(HealthCheckRequest { service: service.into() });
    grpc.unary(request, path, codec).await.unwrap().into_inner().status
}

#[tokio::test]
async fn health_is_told_on_the_door_and_on_a_port_of_its_own() {
    let door = door().await;
    let own = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = own.local_addr().unwrap();
    let serving = tokio::spawn(serve_health(own, door.health.clone(), std::future::pending()));
    let clients = [door.client().await, Client::connect(TcpStream::connect(address).await.unwrap()).await];
    for client in &clients {
        door.health.set_ready(false);
        assert_eq!([probe(client, "").await, probe(client, "liveness").await], [2, 1]);
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Watch");
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let mut grpc = tonic::client::Grpc::new(client.clone());
        grpc.ready().await.unwrap();
        let request = Request::new(HealthCheckRequest { service: "inference-extension".into() });
        let mut watch: Streaming<HealthCheckResponse> =
            grpc.server_streaming(request, path, codec).await.unwrap().into_inner();
        assert_eq!(watch.next().await.unwrap().unwrap().status, 2);
        door.health.set_ready(true);
        assert_eq!(watch.next().await.unwrap().unwrap().status, 1);
        assert_eq!(probe(client, "envoy.service.ext_proc.v3.ExternalProcessor").await, 1);
        assert_eq!(probe(client, "nobody").await, 3);
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/List");
        let codec = tonic_prost::ProstCodec::<HealthListRequest, HealthListResponse>::default();
        let mut grpc = tonic::client::Grpc::new(client.clone());
        grpc.ready().await.unwrap();
        let list = grpc.unary(Request::new(HealthListRequest {}), path, codec).await.unwrap().into_inner();
        assert_eq!(list.statuses.len(), 5);
    }
    serving.abort();
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_at_once() {
    let door = door_with(Options { streams: 2, ..Options::default() }, None).await;
    let client = door.client().await;
    let mut first = client.talk().await.unwrap();
    first.say(head((N, N), "", true, &[]));
    first.reply().await;
    let second = client.talk().await.unwrap();
    let third = client.talk().await;
    assert_eq!(third.err().map(|status| status.code()), Some(Code::Unavailable));
    drop((first, second));
    door.settled().await;
    assert!(client.talk().await.is_ok());
}

#[tokio::test]
async fn closing_refuses_new_streams_and_waits_for_running_ones() {
    let door = door().await;
    door.health.set_ready(true);
    let client = door.client().await;
    let mut talk = client.talk().await.unwrap();
    talk.say(head((FD, FD), "", false, &[])).say(body("abc", true));
    talk.reply().await;
    talk.reply().await;
    door.close.send(CLOSING).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The delay: not ready, and serving as before.
    assert!(!door.health.is_ready());
    let mut more = client.talk().await.unwrap();
    more.say(head((N, N), "", true, &[]));
    more.reply().await;
    drop(more);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(client.talk().await.is_err());
    assert!(TcpStream::connect(door.address).await.is_err());
    talk.say(response("200", false)).say(data("x", true));
    talk.reply().await;
    assert_eq!(streamed(talk.reply().await), ("x".into(), true));
    assert!(talk.hear().await.unwrap().is_none());
    let since = Instant::now();
    door.task.await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn streams_that_do_not_end_are_cut_after_the_grace() {
    let door = door().await;
    let mut talk = door.talk().await;
    talk.say(head((FD, FD), "stuck", true, &[]));
    talk.silence().await;
    let grace = Duration::from_millis(100);
    door.close.send(Closing { delay: Duration::ZERO, grace }).unwrap();
    door.task.await.unwrap();
    assert!(talk.hear().await.is_err());
    let left = || door.counts.streams_open.load(std::sync::atomic::Ordering::SeqCst);
    while left() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(door.seen.events().last().map(String::as_str), Some("drop"));
}

#[tokio::test]
async fn tls_with_a_certificate_of_its_own_and_with_a_given_one() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let made = rcgen::generate_simple_self_signed(["door".to_owned()]).unwrap();
    std::fs::write(&chain, pem("CERTIFICATE", made.cert.der())).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
    assert!(matches!(Certificate::read(&key, &chain), Err(TlsError::File { .. })));
    let given = Certificate::read(&chain, &key).unwrap();
    let door = door_with(Options::default(), Some(given.clone())).await;
    let shown = handshake(door.address).await.1;
    assert_eq!(shown, made.cert.der().to_vec());
    let other = rcgen::generate_simple_self_signed(["door".to_owned()]).unwrap();
    std::fs::write(&chain, pem("CERTIFICATE", other.cert.der())).unwrap();
    assert!(given.reload(&chain, &key).is_err(), "the key is another's");
    std::fs::write(&key, pem("PRIVATE KEY", &other.signing_key.serialize_der())).unwrap();
    given.reload(&chain, &key).unwrap();
    assert_eq!(handshake(door.address).await.1, other.cert.der().to_vec());

    let door = door_with(Options::default(), Some(Certificate::self_signed().unwrap())).await;
    let (io, _) = handshake(door.address).await;
    let mut talk = Client::connect(io).await.talk().await.unwrap();
    talk.say(head((FD, FD), "", true, &[]));
    assert_eq!(set(&talk.reply().await, "x-model").as_deref(), Some("m"));
}

#[tokio::test]
async fn noise_on_the_port_does_no_harm() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for certificate in [None, Some(Certificate::self_signed().unwrap())] {
        let plain = certificate.is_none();
        let door = door_with(Options::default(), certificate).await;
        for noise in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], &[0; 100], b""] {
            let mut io = TcpStream::connect(door.address).await.unwrap();
            io.write_all(noise).await.unwrap();
            io.shutdown().await.unwrap();
            let mut rest = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(5), io.read_to_end(&mut rest)).await.unwrap();
        }
        if plain {
            let client = door.client().await;
            let mut send = client.raw();
            let request = http::Request::get("http://door/nowhere").body(tonic::body::Body::empty()).unwrap();
            let answer = send.send_request(request).await.unwrap();
            assert_eq!(answer.headers()["grpc-status"], "12");
            assert!(client.talk().await.is_ok());
        }
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// A TLS connection that verifies nothing, as gateways do, and the certificate it was shown.
async fn handshake(address: std::net::SocketAddr) -> (tokio_rustls::client::TlsStream<TcpStream>, Vec<u8>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let io = TcpStream::connect(address).await.unwrap();
    let name = "door".try_into().unwrap();
    let io = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, io).await.unwrap();
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let shown = io.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    (io, shown)
}

#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
