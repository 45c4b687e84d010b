/**
 * The faults of a proxied link, and the counters of what passed through it. All its connections share them.
 */

/**
 * Towards the server: requests. Towards the client: responses.
 *
 * @since 0.1.0
 */
export type Direction = "toServer" | "toClient"

/** What happens to the bytes of a direction. */
export type Flow = "pass" | "hold" | "drop"

/** A fault for one chunk, which then is disarmed. */
export interface OneShotFault {
  readonly direction: Direction
  readonly matches: (chunk: Uint8Array) => boolean
  readonly act: (connection: FaultTarget, chunk: Buffer) => void
  /** Called after `act`. */
  readonly onStruck: () => void
}

/** What a one-shot fault can do to a connection. */
export interface FaultTarget {
  readonly forwardThenCutClient: (chunk: Buffer, lingerMillis: number) => void
  readonly forwardPartThenCut: (part: Buffer) => void
  readonly destroy: () => void
}

export const directionsOf = (direction: Direction | "both" | undefined): ReadonlyArray<Direction> =>
  direction === undefined || direction === "both" ? ["toServer", "toClient"] : [direction]

export class LinkFaults {
  readonly flow: Record<Direction, Flow> = { toServer: "pass", toClient: "pass" }
  /** In milliseconds. */
  readonly delay: Record<Direction, number> = { toServer: 0, toClient: 0 }
  bytesPerSecond = Infinity
  /** How often a fault affected a connection or a chunk. */
  struck = 0
  /** How many bytes were forwarded. */
  readonly bytes: Record<Direction, number> = { toServer: 0, toClient: 0 }
  #oneShots: Array<OneShotFault> = []

  arm(fault: OneShotFault) {
    this.#oneShots.push(fault)
  }

  /** The armed fault that matches the chunk, if any. It is disarmed. */
  takeOneShot(direction: Direction, chunk: Uint8Array): OneShotFault | undefined {
    const index = this.#oneShots.findIndex((fault) => fault.direction === direction && fault.matches(chunk))
    if (index < 0) return undefined
    this.struck++
    return this.#oneShots.splice(index, 1)[0]
  }

  clear() {
    this.#oneShots = []
    this.bytesPerSecond = Infinity
    for (const direction of directionsOf("both")) {
      this.flow[direction] = "pass"
      this.delay[direction] = 0
    }
  }
}
