//! The models as they would be refreshed, without a look at a row: what is planned, and how.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;

use super::planning::Planner;
use super::{Inputs, ModelRefresh};
use crate::dataflow::Said;
use crate::epoch::{LAYOUT, Manifest, ModelState};
use crate::error::Result;
use crate::models::Model;
use crate::run_files::Written;
use crate::strategy::Strategy;

/// A model, planned.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) model: Arc<Model>,
    pub(crate) strategy: Strategy,
    /// The query, analyzed, over slots.
    pub(crate) plan: LogicalPlan,
    /// Its operators, those below before those above.
    pub(crate) operators: Vec<Said>,
    /// What its rows depend on, and the columns they have; it has none.
    pub(crate) state: ModelState,
}

/// How closely queries are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Whether they plan.
    Plan,
    /// Whether they can run, too, which takes as long again.
    Run,
}

/// Plans every model, parents before children.
///
/// # Errors
/// [`crate::Error::Model`] for the first query that does not plan, is no function of the log, or cannot run if that is looked at.
pub(crate) async fn shapes(inputs: &Inputs, look: Look) -> Result<Vec<Shape>> {
    let mut manifest = without_models(inputs);
    let planner = Planner::new(inputs)?;
    let (mut shapes, mut strategies) = (Vec::new(), BTreeMap::new());
    for model in &inputs.models {
        let planned = ModelRefresh::plan(&planner, inputs, model, &manifest, &strategies).await?;
        if look == Look::Run {
            planned.refuse_what_cannot_run().await?;
        }
        let state = planned.table(planned.fingerprint.clone(), 0, Written::default());
        // What reads it is bound to the table that is there, if it is of this very query.
        let stored = inputs.before.as_ref().and_then(|before| before.models.get(&model.name.to_string()));
        let stored = stored.filter(|stored| stored.fingerprint == state.fingerprint);
        strategies.insert(model.name.clone(), planned.strategy.clone());
        manifest.models.insert(model.name.to_string(), stored.unwrap_or(&state).clone());
        let said = planned.flow.into_iter().flat_map(|flow| flow.operators).map(|operator| operator.said);
        let (model, strategy, plan) = (Arc::clone(model), planned.strategy, planned.plan);
        shapes.push(Shape { model, strategy, plan, operators: said.collect(), state });
    }
    Ok(shapes)
}

/// The queries of models that were planned, analyzed but for what breaks the ties of their orders.
///
/// # Errors
/// As [`shapes`].
pub(crate) async fn as_written(inputs: &Inputs, shapes: &[Shape]) -> Result<Vec<LogicalPlan>> {
    let mut manifest = without_models(inputs);
    manifest.models = shapes.iter().map(|shape| (shape.model.name.to_string(), shape.state.clone())).collect();
    let planner = Planner::new(inputs)?;
    let mut plans = Vec::with_capacity(shapes.len());
    for shape in shapes {
        plans.push(planner.as_written(inputs, &shape.model, &manifest).await?);
    }
    Ok(plans)
}

fn without_models(inputs: &Inputs) -> Manifest {
    let snapshot = &inputs.snapshot;
    let (version, time, next_offset) = (snapshot.version, snapshot.time, snapshot.next_offset);
    Manifest { layout: LAYOUT, epoch: 0, version, time, next_offset, models: BTreeMap::new() }
}
