/**
 * Progress output: one line when a step starts, one with its duration when it ends. On stderr, because stdout is the
 * program's.
 */
const elapsed = (since) => `${((performance.now() - since) / 1000).toFixed(1)} s`

/** @template A @param {string} title @param {() => A | Promise<A>} work @returns {Promise<A>} */
export const step = async (title, work) => {
  const start = performance.now()
  process.stderr.write(`· ${title} ...\n`)
  try {
    const result = await work()
    process.stderr.write(`✓ ${title} (${elapsed(start)})\n`)
    return result
  } catch (error) {
    process.stderr.write(`✗ ${title} (${elapsed(start)})\n`)
    throw error
  }
}

/** A failure whose message is all that the user needs: it says what to do, so no stack is printed. */
export class Stop extends Error {}

/** @param {unknown} error */
export const report = (error) => {
  const text = error instanceof Error && !(error instanceof Stop) ? error.stack : String(error).replace(/^Error: /, "")
  process.stderr.write(`\n${text}\n`)
}
