/**
 * Steps that are done once, checked by the store's own history: what is done is not started again, no two runs overlap, and
 * only the run in progress writes.
 */
import { TickChecker } from "@effect-kv/test-suite/verification"
import type { Notes } from "./Notes.ts"
import type { Change } from "./Store.ts"
import * as steps from "./work/steps.ts"

type Changes = ReadonlyArray<Change>

/** What was wrong, as messages. */
export const find = (changes: Changes, prefix: string, { steps: notes }: Notes): ReadonlyArray<string> => {
  const keys = Array.from({ length: notes.current + 1 }, (_, step) => steps.stepKey(prefix, step))
  const relevant = changes.filter(({ key }) => /\/step(?:-result)?\//.test(key))
  return [
    ...TickChecker.check(relevant, { jobs: keys, begun: new Set(notes.begun) }).map(({ kind, message, revision }) =>
      `${kind} at revision ${revision}: ${message}`
    ),
    ...wrongReturns(relevant, prefix, notes),
    ...keys.flatMap((key) => staleWrites(relevant, key))
  ]
}

/** A call returns only when the step is done, and at most one call has done it. */
const wrongReturns = (changes: Changes, prefix: string, { returned }: Notes["steps"]): ReadonlyArray<string> => {
  const done = new Set(
    changes.filter(({ key, type, value }) =>
      key.endsWith("/once/last") && type === "put" && (JSON.parse(value) as { readonly state: string }).state === "Done"
    ).map(({ key }) => key)
  )
  return [...Map.groupBy(returned, ({ step }) => step)].flatMap(([step, all]) => {
    const key = steps.stepKey(prefix, step)
    const own = all.filter(({ isOwn }) => isOwn).length
    return [
      ...(done.has(steps.recordOf(key)) ? [] : [`a call of ${key} returned, and it is not done`]),
      ...(own <= 1 ? [] : [`${own} calls have done ${key}`])
    ]
  })
}

/** Each write of a step carries the token of the run that was in progress at its revision. */
const staleWrites = (changes: Changes, key: string): ReadonlyArray<string> => {
  let token: bigint | undefined
  return changes.flatMap((change) => {
    if (change.key === steps.runOf(key)) token = change.type === "put" ? change.createRevision : undefined
    if (change.key !== steps.resultOf(key) || change.type !== "put") return []
    const written = steps.tokenOf(change.value)
    return written === token ? [] : [
      `${change.key} was written with token ${written} at revision ${change.modRevision}, when ${
        token === undefined ? "no run was in progress" : `the run ${token} was`
      }`
    ]
  })
}
