//! One member of ours in a process of its own, so that a test can kill it: `group-member BOOTSTRAP
//! GROUP TOPIC STRATEGY SESSION-MS`. It tells what it does on standard output, as `tidewatch_it::member`
//! says, and closes when its standard input ends.

use std::sync::Arc;
use tidewatch_client::Client;
use tidewatch_it::member::{self, Tell};
use tokio::sync::oneshot;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, group, topic, strategy, session_ms] = &arguments[..] else {
        return Err("five arguments are needed: BOOTSTRAP GROUP TOPIC STRATEGY SESSION-MS".into());
    };
    let tell: Tell = Arc::new(|event| println!("{event}"));
    let mut options = member::options(bootstrap, group, strategy, &tell);
    options.set("session.timeout.ms", session_ms)?;
    let consumer = Client::spawn(options)?.consumer().await?;
    consumer.subscribe([topic.as_str()]).await?;
    let (told, ended) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        std::io::stdin().lines().for_each(drop);
        drop(told);
    });
    member::run(consumer, tell, async { drop(ended.await) }).await;
    Ok(())
}
