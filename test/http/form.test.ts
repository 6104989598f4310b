import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DeputyError } from '../../src/errors.ts'
import { parseForm } from '../../src/listeners/http/form.ts'
import { parseTokenExchange } from '../../src/listeners/local-api/token-request.ts'

const bytes = (text: string): Uint8Array => Buffer.from(text, 'utf8')
const codeOf = (work: () => unknown): string => {
  try {
    work()
    return 'accepted'
  } catch (error) {
    return error instanceof DeputyError ? error.code : `threw ${String(error)}`
  }
}

describe('the form parser', () => {
  it('reads what URLSearchParams writes, with every value in order', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('a', 'b', 'audience', 'ü'), fc.string({ unit: 'grapheme' })), {
          maxLength: 20,
        }),
        (pairs) => {
          const form = parseForm(bytes(new URLSearchParams(pairs).toString()))
          for (const [name] of pairs)
            expect(form.all(name)).toEqual(
              pairs.filter(([each, value]) => each === name && value !== '').map(([, value]) => value.toWellFormed()),
            )
        },
      ),
    )
  })

  it('promise 9: answers any bytes with a form or an error of the taxonomy', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (body) => {
        expect(codeOf(() => parseForm(body))).toMatch(/^(accepted|malformed_request)$/)
      }),
      { numRuns: 2000 },
    )
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('%', 'a', '=', '&', '+', 'f', '0', '%', '%ff', '%00', '\u0000') }),
        (body) => {
          expect(codeOf(() => parseForm(bytes(body)))).toMatch(/^(accepted|malformed_request)$/)
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('threat 12: a subject token that is missing, empty or sent twice is an error, whatever stands beside it', () => {
    const others = fc.array(
      fc.constantFrom(
        'audience=x',
        'client_id=y',
        'scope=z',
        'actor_token=',
        'subject_token_type=urn:ietf:params:oauth:token-type:access_token',
      ),
      { maxLength: 6 },
    )
    fc.assert(
      fc.property(
        others,
        fc.constantFrom(
          '',
          'subject_token=',
          'subject_token=a&subject_token=b',
          'subject_token=a&subject_token=',
          'subject_token=&subject_token=a',
          'Subject_token=a',
          'subject_token%00=a',
        ),
        (beside, subject) => {
          expect(codeOf(() => parseTokenExchange(parseForm(bytes([...beside, subject].join('&')))))).toMatch(
            /^parameter_(missing|repeated)$/,
          )
        },
      ),
    )
  })
})
