/**
 * The published suite on a real etcd of the version under test, by the layer as it comes.
 */
import { suite } from "./support/store.ts"

suite(`etcd ${process.env["EFFECT_KV_ETCD"] ?? ""}`, {})
