/** Small helpers for texts and for the members of parsed JSON. They import nothing. */
export { claimAt } from './claim-path.ts'
export { didYouMean, foldName, nearNames } from './near-names.ts'
export { onOneLine } from './one-line.ts'
export { ownValue } from './own-value.ts'
export { queryValue, withParameter } from './query.ts'
export { sortedJson } from './sorted-json.ts'
