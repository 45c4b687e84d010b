/**
 * Text for a terminal: no control characters, and no wider than it may be.
 */
import { displayWidth } from "effect/cli/CliOutput"

export { displayWidth }

/**
 * The text with its control characters escaped. Keys and descriptions come from other clients, and must not move the
 * cursor, change the direction of text or break a line.
 */
export const printable = (text: string): string =>
  text.replace(
    // oxlint-disable-next-line no-control-regex -- these are what must not reach the terminal
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (character) => escapes[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

const escapes: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" })

/** The text if it is at most `width` cells wide, otherwise its beginning and an ellipsis. */
export const truncate = (text: string, width: number): string => {
  if (displayWidth(text) <= width) return text
  let kept = ""
  let used = 0
  for (const { segment } of graphemes.segment(text)) {
    const cells = displayWidth(segment)
    if (used + cells > width - 1) break
    kept += segment
    used += cells
  }
  return width <= 0 ? "" : `${kept}…`
}

/** The text and as many spaces as make it `width` cells wide. */
export const pad = (text: string, width: number): string => text + " ".repeat(Math.max(0, width - displayWidth(text)))
