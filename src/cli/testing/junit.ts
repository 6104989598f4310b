import type { CaseResult } from './outcome.ts'

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }

/** Text in XML 1.0: characters that it cannot hold are replaced. */
const escape = (text: string): string =>
  // eslint-disable-next-line no-control-regex
  text.replace(/[^\x09\x0a\x0d\x20-\ud7ff\ue000-\ufffd]/g, '?').replace(/[&<>"]/g, (each) => ESCAPES[each]!)

/** Results as JUnit XML, as CI systems read them (https://github.com/testmoapp/junitxml). */
export const toJunit = (suite: string, results: readonly CaseResult[]): string => {
  const failures = results.filter(({ passed }) => !passed).length
  const time = results.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 1000
  const skips = results.filter(({ skipped }) => skipped !== undefined).length
  const cases = results.map(({ name, passed, skipped, problems, milliseconds }) => {
    const open = `  <testcase name="${escape(name)}" classname="${escape(suite)}" time="${(milliseconds / 1000).toFixed(3)}"`
    if (skipped !== undefined) return `${open}>\n    <skipped message="${escape(skipped)}"/>\n  </testcase>`
    if (passed) return `${open}/>`
    return `${open}>\n    <failure message="${escape(problems[0] ?? '')}">${escape(problems.join('\n'))}</failure>\n  </testcase>`
  })
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="${escape(suite)}" tests="${results.length}" failures="${failures}" skipped="${skips}" time="${time.toFixed(3)}">\n${cases.join('\n')}\n</testsuite>\n`
}
