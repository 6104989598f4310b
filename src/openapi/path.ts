import { argumentRefused } from './argument-refused.ts'
import { escapeAll } from './escape.ts'
import { inlineText } from './expand.ts'
import { OperationError } from './refusal.ts'
import type { Parameter } from './tool.ts'

/**
 * A segment that a server could take for another path (RFC 3986 section 6.2.2.3): `..;` is a parent folder to servers
 * that take parameters off segments, and `.. ` to those that take spaces off.
 */
const DOTS = /^ *\.[. ]*(;|$)/
const CONTROL = /\p{Cc}/u

/** Escapes inside of escapes that are looked into. */
const MAX_ESCAPES = 4

/** A text as servers read it that decode once, twice and so on. */
const formsOf = (text: string): string[] => {
  const forms = [text]
  for (let last = text; last.includes('%') && forms.length <= MAX_ESCAPES;) {
    try {
      last = decodeURIComponent(last)
    } catch {
      break
    }
    forms.push(last)
  }
  return forms
}

/** Some servers decode twice, so that an escaped separator is refused as the separator itself. */
const changesPath = (text: string): boolean => {
  const forms = formsOf(text)
  return forms.length > MAX_ESCAPES || forms.some((form) => /[/\\]/.test(form) || DOTS.test(form) || CONTROL.test(form))
}

const textsIn = (value: unknown): string[] => {
  if (typeof value === 'object' && value !== null)
    return [...(Array.isArray(value) ? [] : Object.keys(value)), ...Object.values(value).flatMap(textsIn)]
  return [String(value)]
}

/**
 * The value of a path parameter as a part of one segment.
 * @throws DeputyError `argument_refused` for a value that would make another path of it
 */
const pathText = (parameter: Parameter, value: unknown): string => {
  const { name, style, explode, mediaType, slashes } = parameter
  if (slashes === true && typeof value === 'string' && value.includes('/'))
    return value
      .split('/')
      .map((part) => pathText({ ...parameter, slashes: false }, part))
      .join('/')
  const plain = mediaType === undefined ? value : JSON.stringify(value)
  const texts = textsIn(plain)
  if (texts.every((each) => each === '')) throw argumentRefused(name, 'it is a part of the path and is empty')
  if (texts.some(changesPath))
    throw argumentRefused(name, 'it is one part of a path, so that it has neither slashes nor dots that lead elsewhere')
  return inlineText({ name, style, explode, escape: escapeAll }, plain)
}

/**
 * The path of a request: as many segments as the template, in the same places, unless the file lets a parameter have
 * several.
 * @param valueOf the value of a path parameter; undefined where there is none
 * @throws DeputyError `argument_refused`
 */
export const fillPath = (
  template: string,
  parameters: readonly Parameter[],
  valueOf: (parameter: Parameter) => unknown,
): string =>
  template
    .split('/')
    .map((segment) => {
      let last = ''
      const filled = segment.replace(/\{([^{}]+)\}/g, (braces, name: string) => {
        const parameter = parameters.find((each) => each.in === 'path' && each.name === name)
        if (parameter === undefined) return escapeAll(braces)
        const value = valueOf(parameter)
        if (value === undefined || value === null)
          throw argumentRefused(name, 'it is a part of the path and is missing')
        last = name
        return pathText(parameter, value)
      })
      if (last !== '' && filled.split('/').some((part) => formsOf(part).some((form) => DOTS.test(form))))
        throw argumentRefused(last, 'it would make the path lead elsewhere')
      return filled
    })
    .join('/')

/** Characters of a segment (RFC 3986 section 3.3), and the braces of a template. */
const LITERAL = /[^A-Za-z0-9\-._~!$&'()*+,;=:@%{}/]+/g

/**
 * The path template of a document as a request has it: the text around the names in braces is escaped.
 * @throws OperationError for a path that leads elsewhere by itself
 */
export const templatePath = (base: string, path: string): string => {
  const template = (base + path)
    .split(/(\{[^{}]*\})/)
    .map((part, at) => (at % 2 === 1 ? part : part.replace(LITERAL, (text) => escapeAll(text.toWellFormed()))))
    .join('')
  const plain = template.replace(/\{[^{}]*\}/g, 'x')
  if (!plain.startsWith('/') || plain.startsWith('//') || plain.slice(1).split('/').some(changesPath))
    throw new OperationError('Its path leads elsewhere by itself.', 'Write a path without dots as segments.')
  if (/\{[^{}]*\/[^{}]*\}/.test(template))
    throw new OperationError('A path parameter has a slash in its name.', 'Give it another name in the document.')
  return template
}
