/**
 * The deadline of each client's calls: the default, and shorter ones, so that calls often end at their deadline.
 */
import * as Duration from "effect/Duration"

export const deadlines: ReadonlyArray<Duration.Duration> = [
  Duration.seconds(5),
  Duration.seconds(3),
  Duration.millis(1500)
]

/** The deadline of a client, by its name. */
export const deadlineOf = (name: string): Duration.Duration =>
  deadlines[(Number(name.slice(1)) - 1) % deadlines.length]!
