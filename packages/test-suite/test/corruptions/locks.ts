/**
 * Corruptions of holdings and fenced effects, which `LockChecker` must find.
 */
import type { History, LockChecker } from "@effect-kv/test-suite/verification"
import type { Run } from "../goodHistories.ts"
import type { Corrupt, Pick } from "./pick.ts"

export interface Corruption {
  readonly title: string
  readonly corrupt: Corrupt
  readonly found: ReadonlyArray<LockChecker.Kind>
}

const withHoldings = (run: Run, holdings: ReadonlyArray<History.Holding>): Run => ({
  ...run,
  history: { ...run.history, holdings }
})

const withEffects = (run: Run, effects: ReadonlyArray<History.FencedEffect>): Run => ({
  ...run,
  history: { ...run.history, effects }
})

/** Two holdings, one directly after the other. */
const neighbours = (run: Run, pick: Pick): readonly [History.Holding, History.Holding] | undefined => {
  const inOrder = run.history.holdings.toSorted((a, b) => a.acquired.order - b.acquired.order)
  if (inOrder.length < 2) return undefined
  const at = pick.index(inOrder.length - 1)
  return [inOrder[at]!, inOrder[at + 1]!]
}

const replaceHolding = (run: Run, holding: History.Holding): Run =>
  withHoldings(run, run.history.holdings.map((each) => each.id === holding.id ? holding : each))

const accepted = (run: Run): ReadonlyArray<History.FencedEffect> =>
  run.history.effects.filter((effect) => effect.outcome === "Accepted")

const ofEffect = (
  change: (effect: History.FencedEffect, run: Run) => History.FencedEffect | undefined
): Corrupt =>
(run, pick) => {
  const effect = pick.one(accepted(run))
  const changed = effect && change(effect, run)
  return changed &&
    withEffects(run, run.history.effects.map((each) => each.id === changed.id ? changed : each))
}

export const corruptions: ReadonlyArray<Corruption> = [
  {
    title: "a holder continues while the next one holds the lock",
    found: ["OverlappingHolders"],
    corrupt: (run, pick) => {
      const pair = neighbours(run, pick)
      if (pair === undefined) return undefined
      const [first, second] = pair
      return replaceHolding(run, { ...first, ended: { at: second.ended?.at ?? second.acquired, how: "Released" } })
    }
  },
  {
    title: "a holder never learns that it lost the lock",
    found: ["OverlappingHolders"],
    corrupt: (run, pick) => {
      const pair = neighbours(run, pick)
      if (pair === undefined) return undefined
      const { ended: _, ...first } = pair[0]
      return replaceHolding(run, first)
    }
  },
  {
    title: "a holder learns too late that it lost the lock",
    found: ["OverlappingHolders"],
    corrupt: (run, pick) => {
      const pair = neighbours(run, pick)
      if (pair === undefined) return undefined
      const [first, second] = pair
      const at = { ...second.acquired, order: second.acquired.order + 0.5 }
      return replaceHolding(run, { ...first, ended: { at, how: "Lost" } })
    }
  },
  {
    title: "two holders have each other's tokens",
    found: ["TokenOrder"],
    corrupt: (run, pick) => {
      const pair = neighbours(run, pick)
      if (pair === undefined) return undefined
      const [first, second] = pair
      return replaceHolding(replaceHolding(run, { ...first, token: second.token }), { ...second, token: first.token })
    }
  },
  {
    title: "two holders have the same token",
    found: ["TokenOrder"],
    corrupt: (run, pick) => {
      const pair = neighbours(run, pick)
      return pair && replaceHolding(run, { ...pair[1], token: pair[0].token })
    }
  },
  {
    title: "an effect is accepted with a token that no holder had",
    found: ["EffectWithoutLock"],
    corrupt: ofEffect((effect) => ({ ...effect, token: effect.token * 1000n }))
  },
  {
    title: "an effect is accepted before its holder acquired the lock",
    found: ["EffectWithoutLock"],
    corrupt: ofEffect((effect) => ({ ...effect, invoked: { ...effect.invoked, order: -1 } }))
  },
  {
    title: "an effect is accepted when its holder had lost the lock",
    found: ["EffectWithoutLock"],
    corrupt: ofEffect((effect, run) =>
      effect.revision === undefined || effect.revision === run.revision
        ? undefined
        : { ...effect, revision: run.revision }
    )
  },
  {
    title: "a stale holder's effect is accepted",
    found: ["StaleEffect"],
    corrupt: (run) => {
      const inOrder = accepted(run).toSorted((a, b) => a.invoked.order - b.invoked.order)
      const [first, last] = [inOrder[0], inOrder.at(-1)]
      if (first === undefined || last === undefined || first.token === last.token) return undefined
      const order = last.completed!.order + 1
      const late = {
        ...first,
        id: 1_000_000,
        invoked: { order, nanos: 0n },
        completed: { order: order + 1, nanos: 0n }
      }
      return withEffects(run, [...run.history.effects, late])
    }
  },
  {
    title: "an effect is lost",
    found: ["WrongCount"],
    corrupt: (run) => {
      const unknown = run.history.effects.filter((effect) => effect.outcome === "Unknown")
      return unknown.length > 0 || run.count === 0 ? undefined : { ...run, count: run.count - 1 }
    }
  },
  {
    title: "an effect counts twice",
    found: ["WrongCount"],
    corrupt: (run) => {
      const unknown = run.history.effects.filter((effect) => effect.outcome === "Unknown")
      return unknown.length > 0 ? undefined : { ...run, count: run.count + 1 }
    }
  },
  {
    title: "an effect that was rejected counts",
    found: ["WrongCount"],
    corrupt: (run, pick) => {
      const unknown = run.history.effects.filter((effect) => effect.outcome === "Unknown")
      const effect = pick.one(accepted(run))
      if (effect === undefined || unknown.length > 0) return undefined
      return withEffects(
        run,
        run.history.effects.map((each) => each.id === effect.id ? { ...each, outcome: "Rejected" } : each)
      )
    }
  }
]
