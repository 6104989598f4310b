/** deputy.yaml of a new folder: the template, with what was answered. */
import { stringify } from 'yaml'
import { settingsTemplate } from '#config'

export interface InitSettings {
  /** Public URL of Deputy's pages; undefined: only this machine reaches them. */
  readonly connectUrl: string | undefined
  readonly environment: string
  readonly allowLoopback: boolean
  readonly allowPrivate: readonly string[]
}

const valueText = (value: unknown): string => stringify(value, { collectionStyle: 'flow', lineWidth: 0 }).trimEnd()

/** Lines of the template, and what stands in their place. */
const changesOf = ({ connectUrl, environment, allowLoopback, allowPrivate }: InitSettings): [string, string][] => [
  ['environment: development', `environment: ${valueText(environment)}`],
  ...(connectUrl === undefined
    ? []
    : ([
        ['issuer: http://127.0.0.1:7880', `issuer: ${valueText(connectUrl)}`],
        ['# connect_url: https://connect.example.com', `connect_url: ${valueText(connectUrl)}`],
      ] as [string, string][])),
  ['  allow_loopback: false', `  allow_loopback: ${allowLoopback}`],
  ['  allow_private: []', `  allow_private: ${valueText(allowPrivate)}`],
]

/** @throws Error where the template has changed and lacks a line */
export const settingsText = (settings: InitSettings): string => {
  const lines = settingsTemplate.split('\n')
  for (const [line, replacement] of changesOf(settings)) {
    const at = lines.indexOf(line)
    if (at < 0) throw new Error(`The template of deputy.yaml lacks the line: ${line}`)
    lines[at] = replacement
  }
  return lines.join('\n')
}
