/**
 * How large answers are, learned from those that came: so that no more is asked for at once than should come at once.
 */
import type * as Op from "../../values/Op.ts"

/** The bytes that one answer should hold. */
const wanted = 1024 * 1024

/** How much a new observation counts. */
const weight = 0.25

export class ResponseSize {
  #bytesPerOp = 0

  /** The most answers that can be expected to hold no more than is wanted. */
  get maxAnswers(): number {
    return this.#bytesPerOp === 0 ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor(wanted / this.#bytesPerOp))
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
