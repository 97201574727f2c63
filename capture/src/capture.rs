//! A capture from its beginning to its end: the slot is made, the tables are read, the changes followed, and all of it is begun
//! again where a connection is lost.

use std::path::Path;
use std::time::{Duration, Instant};

use lakebed_ingest::{Intake, Tally};
use lakebed_project::{CaptureConfig, EventsConfig};
use pgwire_replication::{Lsn, ReplicationClient};

use crate::catalog::{Catalog, Facts, lsn, quoted};
use crate::changes::{Changes, failed};
use crate::error::{Error, Result};
use crate::event::Writer;
use crate::lane::Lane;
use crate::position::Position;
use crate::snapshot;
use crate::source::Source;

/// The first pause before something that failed is tried again; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whoever was killed may seem to read a slot a little longer, …
const GOING: Duration = Duration::from_secs(10);

/// … and whoever lost the connection until the server notices: its wal_sender_timeout is a minute.
const NOTICING: Duration = Duration::from_secs(90);

/// Capturing a database.
#[derive(Clone)]
pub struct Capture {
    source: Source,
}

/// What a capture does, as it does it.
#[derive(Debug)]
pub enum Step {
    /// It reads the tables as they are.
    Reads {
        /// How many.
        tables: usize,
    },
    /// It follows the changes.
    Follows {
        /// From this place in the server's log on.
        from: Lsn,
    },
    /// A batch is in the log.
    Appended(Tally),
    /// Something is away, and is tried again.
    Waits {
        /// What happened.
        error: Error,
        /// After so long.
        pause: Duration,
    },
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Capture({} at {})", self.source.name, self.source.server)
    }
}

/// What is asked before anything is captured.
struct Opened {
    catalog: Catalog,
    facts: Facts,
    /// The cluster's own number.
    system: String,
    /// The replication connection, before anything is asked of it.
    session: ReplicationClient,
}

impl Capture {
    /// The capture of a name, as its section says. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::NoUrl`], [`Error::Url`], [`Error::Parameter`].
    pub fn new(name: &str, config: &CaptureConfig, directory: &Path) -> Result<Self> {
        Ok(Self { source: Source::new(name, config, directory)? })
    }

    /// The server and the database, without secrets.
    pub fn server(&self) -> &str {
        &self.source.server
    }

    /// Appends what changes: without end, or with `once` what was changed until now. What may pass is tried again, once it has
    /// worked; the events that are appended are told to `report`.
    ///
    /// # Errors
    /// What does not pass by itself, and whatever is wrong at the beginning.
    pub async fn run(&self, intake: &Intake, once: bool, report: &mut (dyn FnMut(Step) + Send)) -> Result<()> {
        // The events are our own, wherever those of others have their fields.
        let unflattened = ["before", "after"].map(|key| vec![key.to_owned()]).to_vec();
        let intake = intake.with_fields(EventsConfig { unflattened, ..EventsConfig::default() });
        let (mut pause, mut worked, mut in_use) = (PAUSE, false, None::<Instant>);
        let mut until = None;
        loop {
            let mut began = false;
            let told = &mut |step: Step| {
                began |= !matches!(step, Step::Reads { .. });
                report(step);
            };
            let Err(error) = self.run_on(&intake, (once, &mut until), told).await else { return Ok(()) };
            if began {
                (pause, worked, in_use) = (PAUSE, true, None);
            }
            let waits = match &error {
                Error::SlotInUse { .. } => {
                    let patience = if worked { NOTICING } else { GOING };
                    in_use.get_or_insert_with(Instant::now).elapsed() < patience
                }
                error => {
                    // Whoever reads the slot after this is somebody else.
                    in_use = None;
                    worked && error.may_pass()
                }
            };
            if !waits {
                return Err(error);
            }
            report(Step::Waits { error, pause });
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Runs until something fails, or all is done.
    async fn run_on(
        &self,
        intake: &Intake,
        (once, until): (bool, &mut Option<Lsn>),
        report: &mut (dyn FnMut(Step) + Send),
    ) -> Result<()> {
        let source = &self.source;
        let Opened { mut catalog, facts, system, session } = self.open().await?;
        catalog.lock(&source.slot).await?;
        if once && until.is_none() {
            *until = Some(facts.written()?);
        }
        let slot = format!("{system}/{}/{}", facts.database, source.slot);
        let mut lane = Lane::open(intake, &slot).await?;
        let writer = Writer::new(&system, &source.slot, (&source.name, &facts.database));
        let stands = lane.stands.as_ref().map_or(Lsn(0), Position::lsn);
        let confirmed = catalog.slot(&source.slot, &facts.database, stands).await?;
        check(&source.slot, lane.stands.as_ref(), confirmed)?;
        if !matches!(lane.stands, Some(Position::Changes { .. })) {
            let (begins, session) = match confirmed {
                Some(confirmed) => ((confirmed, None), None),
                None => {
                    // Whatever is not there is told before a slot is.
                    catalog.tables(source).await?;
                    let (begins, session) = self.make_slot(session).await?;
                    (begins, Some(session))
                }
            };
            snapshot::read((source, &writer), &mut lane, begins, report, move || drop(session)).await?;
        } else {
            drop(session);
        }
        let mut changes = Changes::begin((source, &writer), &mut catalog, &mut lane).await?;
        report(Step::Follows { from: changes.reached() });
        changes.follow(*until, report).await
    }

    /// Connects twice, and asks what has to be known.
    async fn open(&self) -> Result<Opened> {
        let source = &self.source;
        let mut catalog = Catalog::open(source).await?;
        let facts = catalog.facts(&source.publication).await?;
        let failed = |error| failed(&source.server, &source.slot, error);
        let session = ReplicationClient::connect_gated(source.replication(Lsn(0)).await?).await;
        let mut session = session.map_err(failed)?;
        let system = session.identify_system().await.map_err(failed)?.system_id;
        Ok(Opened { catalog, facts, system, session })
    }

    /// Makes the slot: where it begins, and the server's snapshot of that moment, which is there as long as the session is.
    async fn make_slot(&self, mut session: ReplicationClient) -> Result<((Lsn, Option<String>), ReplicationClient)> {
        let Source { server, slot, .. } = &self.source;
        let made = session
            .simple_query(&format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput EXPORT_SNAPSHOT", quoted(slot)))
            .await;
        let rows = made.map_err(|error| failed(server, slot, error))?;
        let field = |at: usize| {
            let bytes = rows.first().and_then(|row| row.get(at)).and_then(Option::as_ref);
            bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let begins = field(1).ok_or_else(|| Error::Stream { reason: "the slot has no place".to_owned() })?;
        Ok(((lsn(&begins)?, field(2)), session))
    }

    /// Whether changes can be captured, in a few words; where `log` is, whether it has all up to the slot.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn look(&self, log: Option<&Intake>) -> Result<String> {
        let source = &self.source;
        let Opened { mut catalog, facts, system, .. } = self.open().await?;
        let tables = catalog.tables(source).await?.len();
        let lane = match log {
            Some(intake) => Lane::open(intake, &format!("{system}/{}/{}", facts.database, source.slot)).await?.stands,
            None => None,
        };
        let stands = lane.as_ref().map_or(Lsn(0), Position::lsn);
        let confirmed = catalog.slot(&source.slot, &facts.database, stands).await?;
        check(&source.slot, lane.as_ref(), confirmed)?;
        let slot = match confirmed {
            None => format!("the first `lakebed capture` makes the slot '{}'", source.slot),
            Some(confirmed) => {
                let behind = facts.written()?.as_u64().saturating_sub(confirmed.as_u64());
                format!("the slot '{}' is {behind} bytes behind", source.slot)
            }
        };
        let word = if tables == 1 { "table" } else { "tables" };
        Ok(format!("{}: {tables} {word} of {}; {slot}", source.name, source.server))
    }
}

/// Whether the slot still has what comes after the lane.
fn check(slot: &str, stands: Option<&Position>, confirmed: Option<Lsn>) -> Result<()> {
    let Some(stands) = stands.map(Position::lsn) else { return Ok(()) };
    let slot = || slot.to_owned();
    match confirmed {
        None => Err(Error::SlotGone { slot: slot(), stands }),
        Some(confirmed) if confirmed > stands => Err(Error::SlotAhead { slot: slot(), stands, confirmed }),
        Some(_) => Ok(()),
    }
}
