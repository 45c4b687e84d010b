/**
 * The schema's name in SQL. A `$` is written as an escape: the text of a function ends at `$fn$`.
 */
const escaped = (quote: string, name: string): string => {
  const doubled = name.replaceAll(quote, quote + quote)
  return name.includes("$")
    ? `U&${quote}${doubled.replaceAll("\\", "\\\\").replaceAll("$", "\\0024")}${quote}`
    : `${quote}${doubled}${quote}`
}

export const identifier = (name: string): string => escaped("\"", name)

export const literal = (text: string): string => escaped("'", text)
