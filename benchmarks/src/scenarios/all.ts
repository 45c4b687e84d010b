/**
 * All scenarios in the order in which they run.
 */
import type { Scenario } from "../Scenario.ts"
import * as batches from "./batches.ts"
import * as calls from "./calls.ts"
import { cluster } from "./cluster.ts"
import { coldStart, firstGet } from "./coldStart.ts"
import { heap } from "./heap.ts"
import * as layers from "./layers.ts"
import * as locks from "./locks.ts"
import * as members from "./members.ts"
import * as memory from "./memory.ts"
import * as memoryWatches from "./memoryWatches.ts"
import * as metrics from "./metrics.ts"
import { packages } from "./packages.ts"
import * as postgres from "./postgres.ts"
import * as postgresStore from "./postgresStore.ts"
import * as recipes from "./recipes.ts"
import * as watches from "./watches.ts"

/** Memory first: its calls are so short that they are affected by what else the runtime compiled the same code for. */
export const scenarios: ReadonlyArray<Scenario> = [
  memory.get,
  memory.put,
  memory.txn,
  memory.range,
  memoryWatches.fanOut,
  memoryWatches.idle,
  ...calls.all,
  layers.get,
  layers.put,
  metrics.get,
  metrics.put,
  metrics.client,
  batches.get,
  batches.put,
  locks.lock,
  locks.handOver,
  recipes.uncontended,
  recipes.permitsHandOver,
  watches.replay,
  watches.latency,
  members.view,
  ...postgres.all,
  postgresStore.idleWatches,
  postgresStore.growth,
  cluster,
  heap,
  coldStart,
  firstGet,
  packages
]
