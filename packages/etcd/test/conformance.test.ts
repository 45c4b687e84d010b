/**
 * The published conformance suite on a real etcd of the version under test, with the layer's defaults.
 */
import { suite } from "./support/store.ts"

suite(`etcd ${process.env["EFFECT_KV_ETCD"] ?? ""}`, {})
