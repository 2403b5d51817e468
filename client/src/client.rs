//! The client: what producers, consumers and topic administration are reached through.

use crate::clock::Clock;
use crate::driver::Driver;
use crate::handle::Handle;
use crate::producer::Producer;
use crate::token::{TokenProvider, Tokens};
use crate::transaction::TransactionalProducer;
use crate::transport::{Network, Tcp, Tls, Transport};
use crate::wake::WakeFlag;
use std::sync::Arc;
use std::thread::JoinHandle;
use tidewatch_client_core::admin::{self, NewTopic};
use tidewatch_client_core::call::Outcome;
use tidewatch_client_core::client::Command;
use tidewatch_client_core::error::Error;
use tidewatch_client_core::metadata::Cluster;
use tidewatch_client_core::options::{Foreign, Options};
use tidewatch_client_core::producer::partitioner::Partitioner;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// The name of the thread that [`Client::spawn`] starts.
const THREAD_NAME: &str = "tidewatch-client";

/// What each topic of a request came to, in its order.
pub type TopicResults = Vec<(Arc<str>, Result<(), Error>)>;

/// A Kafka client; cheap to clone. Producers and consumers made by it share its connections.
///
/// All its futures are cancellation-safe: dropping one leaves the client whole, though what it
/// asked for may still happen. When the last handle (client, producer, consumer) is dropped, the
/// driver, its thread and its sockets end, and records that were not delivered are lost:
/// flush them first.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) handle: Handle,
}

impl Client {
    /// A client whose driver runs on a thread of its own, so that a blocked runtime of the caller
    /// does not hold it up. Connections are opened as they are needed.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that do not fit together, [`Error::Thread`] where there is no
    /// thread to be had.
    pub fn spawn(options: Options) -> Result<Self, Error> {
        let (client, _) = Self::spawn_thread(Self::build(options)?)?;
        Ok(client)
    }

    /// As [`spawn`](Self::spawn), with tokens for SASL/OAUTHBEARER that the program brings itself.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn spawn_with_tokens(
        options: Options,
        tokens: Arc<dyn TokenProvider>,
    ) -> Result<Self, Error> {
        let (client, _) = Self::spawn_thread(Self::build_with_tokens(options, tokens)?)?;
        Ok(client)
    }

    /// A client and its driver, which the caller polls: for programs that want no other thread.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that do not fit together, and for keys and certificates that
    /// cannot be read or used.
    pub fn build(options: Options) -> Result<(Self, Driver), Error> {
        Self::build_secured(options, None)
    }

    /// As [`build`](Self::build), with tokens for SASL/OAUTHBEARER that the program brings itself.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with_tokens(
        options: Options,
        tokens: Arc<dyn TokenProvider>,
    ) -> Result<(Self, Driver), Error> {
        Self::build_secured(options, Some(tokens))
    }

    fn build_secured(
        options: Options,
        provider: Option<Arc<dyn TokenProvider>>,
    ) -> Result<(Self, Driver), Error> {
        let options = options.validated()?;
        for Foreign { name, why, .. } in options.ignored() {
            tracing::warn!("{name} is ignored: {why}");
        }
        let tokens = Tokens::new(&options.client, provider)?;
        let network = match options.client.security.protocol.is_tls() {
            false => Network::Plain(Tcp),
            true => Network::Secured(Tls::new(&options.client.security.tls)?),
        };
        Ok(Self::build_over(network, options, tokens))
    }

    /// With options that are validated.
    pub(crate) fn build_over(
        transport: impl Transport,
        options: Options,
        tokens: Tokens,
    ) -> (Self, Driver) {
        let (messages, inbound) = mpsc::unbounded_channel();
        let wake = Arc::new(WakeFlag::default());
        let clock = Clock::start();
        let waker = WakeFlag::waker(&wake);
        let driver = Driver::new(
            transport,
            options.client.clone(),
            tokens,
            clock,
            wake,
            inbound,
        );
        let handle = Handle::new(messages, waker, clock, options);
        (Self { handle }, driver)
    }

    pub(crate) fn spawn_thread(built: (Self, Driver)) -> Result<(Self, JoinHandle<()>), Error> {
        let failed = |error: std::io::Error| Error::Thread {
            why: error.to_string(),
        };
        let (client, driver) = built;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let runtime = Background(Some(runtime));
        let run = move || runtime.block_on(driver);
        let thread = std::thread::Builder::new().name(THREAD_NAME.to_owned());
        let thread = thread.spawn(run).map_err(failed)?;
        Ok((client, thread))
    }

    #[cfg(test)]
    pub(crate) fn free_requests(&self) -> usize {
        self.handle.free_requests()
    }

    /// The cluster, once it is known with these topics in it. A topic that the brokers do not know
    /// is asked for again for two seconds, because it may just have been created, and then stands
    /// in the cluster with its error. No topics: as soon as the brokers are known.
    ///
    /// # Errors
    /// No broker could be reached within `default.api.timeout.ms`.
    pub async fn cluster(&self, topics: &[&str]) -> Result<Arc<Cluster>, Error> {
        let limit_ms = self.handle.options().client.default_api_timeout_ms;
        let command = Command::Cluster {
            topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
            timeout_us: limit_ms.saturating_mul(1000),
        };
        let doing = "learn about the cluster";
        match self.handle.request(doing, command).await? {
            Outcome::Cluster(cluster) => Ok(cluster),
            other => Err(unexpected(doing, &other)),
        }
    }

    /// Creates topics, and says for each what came of it, in the order asked for.
    ///
    /// # Errors
    /// The client was closed, or too many such requests are under way. What fails for one topic stands beside
    /// it, and so for each if no broker could be reached in time.
    pub async fn create_topics(&self, topics: Vec<NewTopic>) -> Result<TopicResults, Error> {
        let command = admin::Command::CreateTopics {
            topics,
            validate_only: false,
        };
        self.administer("create topics", command).await
    }

    /// Deletes topics, and says for each what came of it, in the order asked for.
    ///
    /// # Errors
    /// The client was closed, or too many such requests are under way. What fails for one topic stands beside
    /// it, and so for each if no broker could be reached in time.
    pub async fn delete_topics(&self, topics: &[&str]) -> Result<TopicResults, Error> {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        let command = admin::Command::DeleteTopics { topics };
        self.administer("delete topics", command).await
    }

    /// A producer with the client's options.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn producer(&self) -> Result<Producer, Error> {
        self.plain_producer(None).await
    }

    /// A producer with the client's options whose records go where `partitioner` says, unless they name
    /// a partition themselves.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn producer_partitioned_by(
        &self,
        partitioner: Arc<dyn Partitioner>,
    ) -> Result<Producer, Error> {
        self.plain_producer(Some(partitioner)).await
    }

    async fn plain_producer(
        &self,
        partitioner: Option<Arc<dyn Partitioner>>,
    ) -> Result<Producer, Error> {
        let options = self.handle.options().producer.clone();
        if let Some(id) = &options.transactional_id {
            let why =
                format!("transactional.id={id} is set: open a transactional producer, or unset it");
            return Err(Error::Usage(why));
        }
        Producer::open(self.handle.clone(), options, partitioner).await
    }

    /// A producer of transactions under the option `transactional.id`; see
    /// [`transactional_producer_as`](Self::transactional_producer_as).
    ///
    /// # Errors
    /// [`Error::Usage`] where the option is not set.
    pub async fn transactional_producer(&self) -> Result<TransactionalProducer, Error> {
        let id = self.handle.options().producer.transactional_id.as_deref();
        let missing = || Error::Usage("a transactional producer needs transactional.id".to_owned());
        self.transactional_producer_as(id.ok_or_else(missing)?)
            .await
    }

    /// A producer of transactions under its own transactional id, over this client's connections.
    /// Every other producer of that id is fenced from now on, and what it left open is aborted.
    ///
    /// # Errors
    /// [`Error::TimedOut`] where the coordinator could not be reached within `max.block.ms`, or
    /// what it refuses the id with.
    pub async fn transactional_producer_as(
        &self,
        transactional_id: &str,
    ) -> Result<TransactionalProducer, Error> {
        let options = self.handle.options().producer.clone();
        let options = options.transactional(transactional_id)?;
        TransactionalProducer::open(self.handle.clone(), options).await
    }

    async fn administer(
        &self,
        doing: &str,
        command: admin::Command,
    ) -> Result<TopicResults, Error> {
        match self
            .handle
            .request(doing, Command::Admin(command.into()))
            .await?
        {
            Outcome::Topics(results) => Ok(results),
            other => Err(unexpected(doing, &other)),
        }
    }
}

/// A runtime that waits for nothing when it is dropped, such as a name server that takes its time.
/// Unlike a bare one it may be dropped by async code, where the thread for it could not be started.
struct Background(Option<Runtime>);

impl Background {
    fn block_on(&self, driver: Driver) {
        if let Some(runtime) = &self.0 {
            // As a task, which costs less to wake than the future that a runtime blocks on.
            let _ = runtime.block_on(runtime.spawn(driver));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The core ends every request with the outcome of its kind; if it ever did not, that is told.
pub(crate) fn unexpected(doing: &str, outcome: &Outcome) -> Error {
    Error::Usage(format!(
        "failed to {doing}: it ended as another request does: {outcome:?}"
    ))
}
