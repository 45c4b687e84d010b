/**
 * The published suite on memory with the default options: without batching.
 */
import { suite } from "./support/store.ts"

suite("memory", {})
