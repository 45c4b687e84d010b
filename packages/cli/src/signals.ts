/**
 * Signals to this process. They interrupt the program, unless something has registered to receive them, as the commands do
 * that run another one.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { constants } from "node:os"
import { signalled } from "./exitCodes.ts"

/** The signals that request a program to end. */
const ending = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const

/** A signal that requests a program to end. */
export type Ending = typeof ending[number]

/** Receives a signal. */
export type Receiver = (signal: Ending) => void

/** The signals of a program. */
export interface Signals {
  /** While the scope is open, signals go to the receiver instead of interrupting the program. */
  readonly receive: (receiver: Receiver) => Effect.Effect<void, never, Scope.Scope>
}

/** The service {@link Signals}. */
export const Signals: Context.Service<Signals, Signals> = Context.Service<Signals>("@effect-kv/cli/Signals")

/** The signals of this process: `listen` names the receiver of those that nothing else receives, and returns the end. */
export const make = (): { readonly signals: Signals; readonly listen: (receiver: Receiver) => () => void } => {
  const receivers: Array<Receiver> = []
  const listener = (signal: NodeJS.Signals) => receivers.at(-1)?.(signal as Ending)
  return {
    signals: {
      receive: (receiver) =>
        Effect.asVoid(Effect.acquireRelease(
          Effect.sync(() => receivers.push(receiver)),
          () => Effect.sync(() => receivers.splice(receivers.indexOf(receiver), 1))
        ))
    },
    listen: (receiver) => {
      receivers.unshift(receiver)
      for (const signal of ending) process.on(signal, listener)
      return () => {
        for (const signal of ending) process.off(signal, listener)
      }
    }
  }
}

/** The exit code of a program that the signal ended. */
export const exitCodeOf = (signal: NodeJS.Signals): number => signalled + constants.signals[signal]
