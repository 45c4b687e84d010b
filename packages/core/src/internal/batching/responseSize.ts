/**
 * An estimate of the size of a response, learned from earlier responses. It limits how many reads are batched, so that
 * the response to a batch stays small.
 */
import type * as Op from "../../values/Op.ts"

/** The bytes that the response to one batch should have at most. */
const maxResponseBytes = 1024 * 1024

/** The weight of a new observation in the moving average. */
const weight = 0.25

export class ResponseSize {
  #bytesPerOp = 0

  /** The most operations whose responses are expected to fit into `maxResponseBytes`. */
  get maxResponses(): number {
    return this.#bytesPerOp === 0
      ? Number.POSITIVE_INFINITY
      : Math.max(1, Math.floor(maxResponseBytes / this.#bytesPerOp))
  }

  observe(responses: ReadonlyArray<Op.Response>): void {
    let bytes = 0
    for (const response of responses) bytes += bytesOf(response)
    this.#bytesPerOp += weight * (bytes / responses.length - this.#bytesPerOp)
  }
}

const bytesOf = (response: Op.Response): number => {
  switch (response._tag) {
    case "Range":
      return response.entries.length === 0 ? 0 : response.entries[0]!.size
    case "Put":
      return response.previous._tag === "None" ? 0 : response.previous.value.size
    case "Delete":
      return response.previous.length === 0 ? 0 : response.previous[0]!.size
    case "Txn": {
      let bytes = 0
      for (const inner of response.responses) bytes += bytesOf(inner)
      return bytes
    }
  }
}
