/**
 * Random faults of calls, drawn from a seed.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { below, type Draw, seeded } from "../../internal/seeded.ts"
import type { Call } from "../BackendCall.ts"
import * as fault from "./fault.ts"
import type { RandomOptions } from "./faultOptions.ts"

/** The random fault of a call, and what happens to the client at this call. */
export interface RandomEvents {
  readonly fault: fault.Fault | undefined
  /** Cuts all watches for this long. */
  readonly cutFor: Duration.Duration | undefined
  /** Ends a lease, chosen by its position among all leases, from 0 to 1. */
  readonly endLeaseAt: number | undefined
}

export class RandomFaults {
  readonly #options: RandomOptions
  readonly #draw: Draw
  readonly #maxDelay: number

  constructor(options: RandomOptions) {
    this.#options = options
    this.#draw = seeded(options.seed, "faults")
    this.#maxDelay = Duration.toMillis(Duration.fromInputUnsafe(options.maxDelay ?? "100 millis"))
  }

  /** The events of a call, `undefined` for none. */
  strike(call: Call): RandomEvents | undefined {
    if (this.#options.when?.(call) === false) return undefined
    const fault = this.#fault()
    const cutFor = this.#happens(this.#options.cutWatches) ? this.#delay() : undefined
    const endLeaseAt = this.#happens(this.#options.endLease) ? this.#draw() : undefined
    return fault === undefined && cutFor === undefined && endLeaseAt === undefined
      ? undefined
      : { fault, cutFor, endLeaseAt }
  }

  /** Delays the events of a watch. */
  get eventDelay(): Effect.Effect<void> {
    return this.#happens(this.#options.delay) ? Effect.sleep(this.#delay()) : Effect.void
  }

  #fault(): fault.Fault | undefined {
    const failure = this.#failure()
    if (failure?.isUnsent === true || !this.#happens(this.#options.delay)) return failure
    const parts = below(this.#draw, 3)
    const delays = [parts > 0 ? this.#delay() : undefined, parts < 2 ? this.#delay() : undefined] as const
    return {
      ...failure,
      description: `${failure === undefined ? "" : `${failure.description}, `}delayed by ${
        delays.map((delay) => Duration.toMillis(delay ?? Duration.zero)).join(" + ")
      } ms`,
      ...(delays[0] === undefined ? {} : { onRequest: Effect.sleep(delays[0]) }),
      ...(delays[1] === undefined ? {} : { onResponse: Effect.sleep(delays[1]) })
    }
  }

  #failure(): fault.Fault | undefined {
    if (this.#happens(this.#options.unavailable)) return fault.unavailable
    if (this.#happens(this.#options.loseRequest)) return fault.loseRequest
    if (this.#happens(this.#options.loseResponse)) return fault.loseResponse
    if (this.#happens(this.#options.applyLate)) return fault.applyLate(this.#delay())
    if (this.#happens(this.#options.silence)) {
      return fault.silently(below(this.#draw, 2) === 0 ? fault.loseRequest : fault.loseResponse)
    }
    return undefined
  }

  #happens(rate: number | undefined): boolean {
    return rate !== undefined && rate > 0 && this.#draw() < rate
  }

  #delay(): Duration.Duration {
    return Duration.millis(1 + below(this.#draw, this.#maxDelay))
  }
}
