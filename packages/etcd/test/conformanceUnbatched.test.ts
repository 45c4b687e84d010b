/**
 * The published conformance suite on a real etcd of the version under test, without batching. Waiting for leases and
 * deadlines has nothing to do with batching.
 */
import { suite } from "./support/store.ts"

suite(
  `etcd ${process.env["EFFECT_KV_ETCD"] ?? ""}, not batched`,
  { batching: false },
  process.env["EFFECT_KV_EVERYTHING"] === "yes"
)
