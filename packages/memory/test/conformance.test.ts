/**
 * The published suite on memory, by the layer as it comes: without batching.
 */
import { suite } from "./support/store.ts"

suite("memory", {})
