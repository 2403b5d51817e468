//! `tidewatch-devbroker`: the in-memory broker on a port, for trying things out and for tests.

mod arguments;
mod clock;
mod connection;
mod shell;

use arguments::{Arguments, HostPort};
use clap::{CommandFactory, Parser};
use shell::Shell;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::rc::Rc;
use tidewatch_broker::{Cluster, Endpoint, NodeId};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tracing::{debug, info, warn};

/// Connections of all nodes together; more are closed as they come.
const MAX_CONNECTIONS: usize = 256;

/// Exit codes of every Tidewatch command.
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

/// Every flag, as `--help` shows them.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(arguments.log_level())
        .init();
    if let Err(error) = arguments.check() {
        eprintln!("tidewatch-devbroker: {error}");
        return ExitCode::from(WRONG_USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tidewatch-devbroker: failed to start: {error}");
            return ExitCode::from(FAILED);
        }
    };
    match LocalSet::new().block_on(&runtime, run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidewatch-devbroker: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Why the broker did not start or ended.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("failed to listen on {at}: {source}; choose another address with --listen")]
    Listen {
        at: HostPort,
        source: std::io::Error,
    },
    #[error("failed to prepare the cluster: {0}")]
    Prepare(#[from] tidewatch_broker::ControlError),
    #[error("failed to write to standard output: {0}")]
    Stdout(std::io::Error),
    #[error("failed to listen for signals: {0}")]
    Signals(std::io::Error),
}

async fn run(arguments: Arguments) -> Result<(), RunError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut cluster = Cluster::new(arguments.options());
    let mut listeners = Vec::new();
    for number in 0..arguments.nodes {
        let (listener, bound) = listen(&arguments.listen.offset(number)).await?;
        let node = NodeId(i32::from(number) + 1);
        let told = match &arguments.advertise {
            Some(advertise) => advertise.offset(number),
            None => bound.clone(),
        };
        cluster.set_endpoint(Endpoint {
            node,
            host: told.host,
            port: told.port,
        })?;
        listeners.push((node, listener, bound));
    }
    arguments.prepare(&mut cluster, clock::now())?;

    let shell = Rc::new(Shell::new(cluster));
    let slots = Rc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::task::spawn_local(Rc::clone(&shell).keep_time());
    for (node, listener, bound) in listeners {
        tokio::task::spawn_local(accept(Rc::clone(&shell), Rc::clone(&slots), node, listener));
        announce(&bound).map_err(RunError::Stdout)?;
    }
    tokio::select! {
        _ = interrupt.recv() => info!("interrupted, ending"),
        _ = terminate.recv() => info!("terminated, ending"),
    }
    Ok(())
}

async fn listen(at: &HostPort) -> Result<(TcpListener, HostPort), RunError> {
    let failed = |source| RunError::Listen {
        at: at.clone(),
        source,
    };
    let listener = TcpListener::bind((at.host.as_str(), at.port))
        .await
        .map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((
        listener,
        HostPort {
            host: at.host.clone(),
            port,
        },
    ))
}

/// Scripts wait for this line; the socket accepts already.
fn announce(bound: &HostPort) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "LISTENING {bound}")?;
    stdout.flush()
}

async fn accept(shell: Rc<Shell>, slots: Rc<Semaphore>, node: NodeId, listener: TcpListener) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely; others must end first.
                warn!(%node, %error, "failed to accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        if slots.available_permits() == 0 {
            warn!(%node, %peer, "refused: {MAX_CONNECTIONS} connections are open already");
            continue;
        }
        debug!(%node, %peer, "connected");
        tokio::task::spawn_local(hold(Rc::clone(&shell), Rc::clone(&slots), node, stream));
    }
}

async fn hold(shell: Rc<Shell>, slots: Rc<Semaphore>, node: NodeId, stream: TcpStream) {
    let Ok(_slot) = slots.try_acquire() else {
        return;
    };
    let peer = stream
        .peer_addr()
        .map_or_else(|_| "?".to_owned(), |peer| peer.to_string());
    match connection::serve(&shell, node, stream).await {
        Ok(()) => debug!(%node, %peer, "closed by the client"),
        Err(end) => end.log(node, &peer),
    }
}
