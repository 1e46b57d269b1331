//! Shows that a delivery allocates nothing: what the shard threads allocate grows with publications, not with subscribers.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use fanfare::{Context, Decision, Engine, Handler, Message, PublishError, Subscribe, Upgrade};
use fanfare_benches::Result;
use fanfare_benches::shard_allocations::{Case, Counted, Subject, count};
use fanfare_benches::sys::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const TOPIC: &str = "bench";

/// Counts the allocations of the engine's shard threads with few and with many subscribers.
#[derive(Parser)]
struct Cli {
    /// The smaller number of subscribers.
    #[arg(long, default_value_t = 10)]
    few: usize,
    /// The larger number of subscribers.
    #[arg(long, default_value_t = 500)]
    many: usize,
    /// Publications counted in each case.
    #[arg(long, default_value_t = 2_000)]
    publications: u64,
    /// Publications before them that are not.
    #[arg(long, default_value_t = 500)]
    warm_up: u64,
    /// Bytes of each payload.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Publications on their way at the same time; a case for each.
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    in_flight: Vec<u64>,
    /// Allocations that a delivery may cost.
    #[arg(long, default_value_t = 0.005)]
    max: f64,
}

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("allocations: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    /// Returns whether the limit is kept in all cases.
    fn run(self) -> Result<bool> {
        if self.few == 0 || self.many <= self.few || self.publications == 0 || self.in_flight.contains(&0) {
            return Err("it takes publications, and more subscribers in the larger case than in the smaller".into());
        }
        println!("in flight  subscribers  publications  deliveries  shard allocations  per publication  others");
        let mut kept = true;
        for &in_flight in &self.in_flight {
            let few = self.count(self.few, in_flight)?;
            let many = self.count(self.many, in_flight)?;
            let per_delivery = Counted::per_delivery_between(&few, &many);
            kept &= per_delivery <= self.max;
            let verdict = if per_delivery <= self.max { "kept" } else { "BROKEN" };
            println!("{verdict}: {per_delivery:.5} allocations per delivery, at most {}", self.max);
        }
        Ok(kept)
    }

    fn count(&self, subscribers: usize, in_flight: u64) -> Result<Counted> {
        let (publications, warm_up, payload_bytes) = (self.publications, self.warm_up, self.payload);
        let case = Case { subscribers, publications, warm_up, in_flight, payload_bytes };
        let engine = InProcess::start()?;
        let counted = count(&engine, case)?;
        engine.0.shutdown();
        println!(
            "{in_flight:>9}  {subscribers:>11}  {publications:>12}  {:>10}  {:>17}  {:>15.3}  {:>6}",
            case.deliveries(),
            counted.shards.calls,
            counted.shards.calls as f64 / publications as f64,
            counted.others.calls,
        );
        Ok(counted)
    }
}

/// The engine, embedded: one shard, every connection a subscriber of the one topic.
struct InProcess(Engine);

struct SubscribeAll;

impl Handler for SubscribeAll {
    type Data = ();

    fn upgrade(&self, _: &Upgrade<'_>) -> Decision<()> {
        Decision::accept(())
    }

    fn open(&self, ctx: &mut Context<'_, ()>) {
        assert!(ctx.subscribe(TOPIC, Subscribe::default()).is_ok(), "a first subscription is not refused");
    }
}

impl InProcess {
    fn start() -> Result<Self> {
        Ok(Self(Engine::builder(SubscribeAll).listen("127.0.0.1:0".parse()?).shards(1).start()?))
    }
}

impl Subject for InProcess {
    fn address(&self) -> SocketAddr {
        self.0.local_addrs()[0]
    }

    fn publish(&self, payload: &[u8]) -> Result<bool> {
        match self.0.handle().publish(TOPIC, Message::Binary(payload)) {
            Ok(_) => Ok(true),
            Err(PublishError::Overloaded) => Ok(false),
            Err(error) => Err(error.to_string().into()),
        }
    }
}
