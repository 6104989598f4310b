import { InvalidArgumentError } from 'commander'

/** Parses an option that counts something. @throws InvalidArgumentError, which commander shows with the option */
export const countArgument = (text: string): number => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1 || value > 10_000)
    throw new InvalidArgumentError('write a whole number from 1 to 10000')
  return value
}
