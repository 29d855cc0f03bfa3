//! The next connection of a listener, whatever goes wrong in between. Called by every door's loop.

use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// When accepting fails (no file descriptors left), the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The next connection; `failed` is called for each try in vain.
pub async fn accepted(listener: &TcpListener, failed: impl Fn()) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                failed();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
