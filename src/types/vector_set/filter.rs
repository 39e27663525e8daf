//! Conditions on attributes, such as `.year >= 1980 and .genre in ["action", "drama"]`.
//!
//! An expression is translated once into operands and operators in the order in which a stack machine evaluates them (E.
//! Dijkstra's shunting yard), and then tried on many elements. Fields begin with a dot. Strings that are compared with
//! numbers count as numbers, and as 0 if they are none. An element that lacks any of the fields named in the expression
//! is not accepted, whatever else the expression says.

use std::borrow::Cow;

use super::attributes;
use crate::stdx::num;

/// A value of a field or of a part of an expression.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value<'a> {
    Number(f64),
    Text(Cow<'a, [u8]>),
    Null,
    List(Vec<Value<'a>>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operator {
    Or,
    And,
    Equal,
    Different,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    Not,
    /// An opening parenthesis, while an expression is translated.
    Open,
}

use Operator::*;

/// Operators as they are written. One that begins another comes after it.
const WRITTEN: [(&[u8], Operator); 20] = [
    (b"||", Or),
    (b"or", Or),
    (b"&&", And),
    (b"and", And),
    (b"==", Equal),
    (b"!=", Different),
    (b"<=", LessOrEqual),
    (b">=", GreaterOrEqual),
    (b"<", Less),
    (b">", Greater),
    (b"in", In),
    (b"+", Add),
    (b"-", Subtract),
    (b"**", Power),
    (b"*", Multiply),
    (b"/", Divide),
    (b"%", Remainder),
    (b"!", Not),
    (b"not", Not),
    (b"(", Open),
];

impl Operator {
    /// Operators with a higher rank are evaluated first.
    fn rank(self) -> u8 {
        match self {
            Open => 0,
            Or => 1,
            And => 2,
            Equal | Different | Less | LessOrEqual | Greater | GreaterOrEqual | In => 3,
            Add | Subtract => 4,
            Multiply | Divide | Remainder => 5,
            Power => 6,
            Not => 7,
        }
    }

    /// Whether it is evaluated before `next`, which is written behind it.
    fn precedes(self, next: Operator) -> bool {
        self.rank() > next.rank() || (self.rank() == next.rank() && next != Power)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Literal(Value<'static>),
    Field(Vec<u8>),
    Operator(Operator),
}

/// A condition on attributes.
#[derive(Clone, Debug)]
pub struct Filter(Vec<Step>);

/// Reads an expression.
struct Reader<'e> {
    expression: &'e [u8],
    at: usize,
    steps: Vec<Step>,
    /// Operators whose operands are not yet complete.
    waiting: Vec<Operator>,
    /// Number of values on the stack after the steps so far.
    depth: usize,
    /// Whether the last token was an operand, so that a minus behind it subtracts.
    after_operand: bool,
}

/// An expression is wrong: the rest of it from where it is.
type Wrong = usize;

impl<'e> Reader<'e> {
    fn rest(&self) -> &'e [u8] {
        &self.expression[self.at..]
    }

    /// Consumes bytes while they are of a kind.
    fn run(&mut self, of: impl Fn(u8) -> bool) -> &'e [u8] {
        let rest = self.rest();
        let len = rest.iter().take_while(|&&byte| of(byte)).count();
        self.at += len;
        &rest[..len]
    }

    fn skip_spaces(&mut self) {
        self.run(|byte| byte.is_ascii_whitespace());
    }

    fn operand(&mut self, step: Step) {
        self.steps.push(step);
        self.depth += 1;
        self.after_operand = true;
    }

    /// Moves an operator that has its operands to the steps.
    fn complete(&mut self, operator: Operator) -> Result<(), Wrong> {
        let operands = if operator == Not { 1 } else { 2 };
        if self.depth < operands {
            return Err(0);
        }
        self.depth = self.depth - operands + 1;
        self.steps.push(Step::Operator(operator));
        Ok(())
    }

    fn operator(&mut self, operator: Operator) -> Result<(), Wrong> {
        self.after_operand = false;
        if operator != Open {
            while let Some(before) = self.waiting.pop_if(|before| before.precedes(operator)) {
                self.complete(before)?;
            }
        }
        self.waiting.push(operator);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Wrong> {
        self.after_operand = true;
        loop {
            match self.waiting.pop() {
                Some(Open) => return Ok(()),
                Some(operator) => self.complete(operator)?,
                None => return Err(0),
            }
        }
    }

    fn number(&mut self) -> Result<Value<'static>, Wrong> {
        let start = self.at;
        self.at += usize::from(self.rest().first() == Some(&b'-'));
        self.run(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E'));
        let text = std::str::from_utf8(&self.expression[start..self.at]).ok();
        text.and_then(|text| text.parse().ok()).map(Value::Number).ok_or(self.at)
    }

    /// A string in quotes of either kind. A backslash keeps a quote from ending it, and stays.
    fn text(&mut self) -> Result<Value<'static>, Wrong> {
        let (start, quote) = (self.at, self.rest()[0]);
        let mut at = start + 1;
        loop {
            match self.expression.get(at) {
                None => return Err(start),
                Some(&byte) if byte == quote => break,
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
            }
        }
        self.at = at + 1;
        Ok(Value::Text(self.expression[start + 1..at].to_vec().into()))
    }

    /// Whether a number begins here.
    fn at_number(&self) -> bool {
        match self.rest() {
            [b'-', digit, ..] => !self.after_operand && digit.is_ascii_digit(),
            [digit, ..] => digit.is_ascii_digit(),
            [] => false,
        }
    }

    fn list(&mut self) -> Result<Value<'static>, Wrong> {
        self.at += 1;
        self.after_operand = false;
        let mut values = Vec::new();
        loop {
            self.skip_spaces();
            match self.rest().first() {
                None => return Err(self.at),
                Some(b']') => break,
                Some(b'"' | b'\'') => values.push(self.text()?),
                Some(_) if self.at_number() => values.push(self.number()?),
                Some(_) => return Err(self.at),
            }
            self.skip_spaces();
            match self.rest().first() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.at),
            }
        }
        self.at += 1;
        Ok(Value::List(values))
    }

    fn read(mut self) -> Result<Filter, Wrong> {
        loop {
            self.skip_spaces();
            let Some(&first) = self.rest().first() else { break };
            match first {
                _ if self.at_number() => {
                    let number = self.number()?;
                    self.operand(Step::Literal(number));
                }
                b'"' | b'\'' => {
                    let text = self.text()?;
                    self.operand(Step::Literal(text));
                }
                b'[' => {
                    let list = self.list()?;
                    self.operand(Step::Literal(list));
                }
                b'.' => {
                    self.at += 1;
                    let name = self.run(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
                    self.operand(Step::Field(name.to_vec()));
                }
                b'(' => {
                    self.at += 1;
                    self.operator(Open)?;
                }
                b')' => {
                    self.at += 1;
                    self.close()?;
                }
                b'a'..=b'z' | b'A'..=b'Z' => match self.run(|byte| byte.is_ascii_alphabetic()) {
                    b"null" => self.operand(Step::Literal(Value::Null)),
                    word => {
                        let written = WRITTEN.iter().find(|(written, _)| *written == word);
                        let (_, operator) = written.ok_or(self.at)?;
                        self.operator(*operator)?;
                    }
                },
                _ => {
                    let rest = self.rest();
                    let signs = rest.iter().take_while(|byte| b"+-*%/!<>=|&".contains(byte)).count();
                    let Some((written, operator)) =
                        WRITTEN.iter().find(|(written, _)| rest[..signs].starts_with(written))
                    else {
                        return Err(self.at + signs);
                    };
                    self.at += written.len();
                    self.operator(*operator)?;
                }
            }
        }
        while let Some(operator) = self.waiting.pop() {
            if operator == Open {
                return Err(0);
            }
            self.complete(operator)?;
        }
        if self.depth == 1 { Ok(Filter(self.steps)) } else { Err(0) }
    }
}

impl Value<'_> {
    fn number(&self) -> f64 {
        match self {
            Value::Number(number) => *number,
            Value::Text(text) => num::parse_f64(text.trim_ascii_start()).unwrap_or(0.0),
            Value::Null | Value::List(_) => 0.0,
        }
    }

    fn is_true(&self) -> bool {
        match self {
            Value::Number(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::Null => false,
            Value::List(_) => true,
        }
    }

    fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Null, Value::Null) => true,
            (Value::Null, _) | (_, Value::Null) => false,
            _ => self.number() == other.number(),
        }
    }

    /// Whether it is one of a list, or a part of a text.
    fn is_in(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (_, Value::List(list)) => list.iter().any(|value| self.equals(value)),
            (Value::Text(part), Value::Text(whole)) => {
                part.is_empty() || whole.windows(part.len()).any(|window| window == &**part)
            }
            _ => false,
        }
    }
}

/// The value of an operation on two values.
fn apply(operator: Operator, a: &Value<'_>, b: &Value<'_>) -> Value<'static> {
    let truth = |truth: bool| f64::from(u8::from(truth));
    let (x, y) = (a.number(), b.number());
    Value::Number(match operator {
        Or => truth(a.is_true() || b.is_true()),
        And => truth(a.is_true() && b.is_true()),
        Equal => truth(a.equals(b)),
        Different => truth(!a.equals(b)),
        Less => truth(x < y),
        LessOrEqual => truth(x <= y),
        Greater => truth(x > y),
        GreaterOrEqual => truth(x >= y),
        In => truth(a.is_in(b)),
        Add => x + y,
        Subtract => x - y,
        Multiply => x * y,
        Divide => x / y,
        Remainder => x % y,
        Power => x.powf(y),
        Not | Open => unreachable!("it does not have two operands"),
    })
}

impl Filter {
    /// Translates an expression. O(n).
    ///
    /// # Errors
    /// The offset at which it is wrong; 0 if it is wrong as a whole.
    pub fn parse(expression: &[u8]) -> Result<Filter, usize> {
        let reader = Reader {
            expression,
            at: 0,
            steps: Vec::new(),
            waiting: Vec::new(),
            depth: 0,
            after_operand: false,
        };
        reader.read().map_err(|at| if at < expression.len() { at } else { 0 })
    }

    /// Whether the attributes in `json` meet the condition. O(length of the attributes) for each field.
    pub fn accepts(&self, json: &[u8]) -> bool {
        let mut stack: Vec<Value<'_>> = Vec::with_capacity(8);
        for step in &self.0 {
            let value = match step {
                Step::Literal(value) => value.clone(),
                Step::Field(name) => match attributes::field(json, name) {
                    Some(value) => value,
                    None => return false,
                },
                Step::Operator(Not) => {
                    let value = stack.pop().expect(COUNTED);
                    Value::Number(f64::from(u8::from(!value.is_true())))
                }
                Step::Operator(operator) => {
                    let (b, a) = (stack.pop().expect(COUNTED), stack.pop().expect(COUNTED));
                    apply(*operator, &a, &b)
                }
            };
            stack.push(value);
        }
        stack.pop().expect(COUNTED).is_true()
    }
}

const COUNTED: &str = "operands were counted when the expression was translated";

#[cfg(test)]
mod tests {
    use super::*;

    const FILM: &[u8] =
        br#"{"y":1950,"n":-150,"s":"hi","t":true,"f":false,"z":null,"arr":[1,"two",3],"o":{"k":1},"e":""}"#;

    /// Facts of Redis 8.2.3.
    #[test]
    fn conditions_hold_as_in_redis() {
        let accepted = [
            ".y",
            ".y == 1950",
            ".y == \"1950\"",
            ".y > 1900 and .y < 1960",
            ".y>1990||.s==\"hi\"",
            "!(.y == 1951)",
            ".t",
            "!.f",
            ".z == null",
            "null == null",
            "1",
            "\"x\"",
            "!.e",
            ".arr",
            "1 in .arr",
            "\"two\" in .arr",
            "\"h\" in .s",
            ".y in [1950, 2000]",
            ".y - 50 == 1900",
            ".y % 100 == 50",
            "2 ** 3 ** 2 == 512",
            "-1 == 0 - 1",
            "1 + 2 * 3 == 7",
            "(1 + 2) * 3 == 9",
            "1 / 0",
            "\"abc\" + 1 == 1",
            "\"abc\" == 0",
            ".s >= \"hi\"",
            "0 > 1 == 0",
            "1 in [1] < 5",
            ".y () ",
            "not 1 or 1",
            "1--1 == 2",
            "1-1==0",
            "5. == 5",
            "\"\" in \"abc\"",
            "1 in [1,]",
            ".n*-2 == 300",
            "1 or 1 and 0",
            "!1 == 0",
            ".y==1950and 1",
            ".arr in .arr",
            "null < 1",
            "7.5 % 2 == 1.5",
        ];
        for text in accepted {
            let filter =
                Filter::parse(text.as_bytes()).unwrap_or_else(|at| panic!("{text} is wrong at {at}"));
            assert!(filter.accepts(FILM), "{text}");
        }
        let rejected = [
            ".y != 1950",
            "not .y",
            ".f",
            ".z",
            ".z == 0",
            "0",
            "\"\"",
            ".y and .missing",
            ".y or .missing",
            "not .missing",
            ".missing == .missing",
            ".o",
            "!.o",
            "\"abc\" < \"abd\"",
            ".y-50==1900",
            ".",
            "not 1 == 2",
            "not 0 and 0",
            "3 > 2 > 1",
            "1 in 1",
            "2 ** 3 ** 2 == 64",
            "0/0 == 0/0",
            ".s in [\"x\"]",
            ".5 == 0.5",
            "1 in []",
            "null == 0",
        ];
        for text in rejected {
            let filter =
                Filter::parse(text.as_bytes()).unwrap_or_else(|at| panic!("{text} is wrong at {at}"));
            assert!(!filter.accepts(FILM), "{text}");
        }
    }

    #[test]
    fn errors_are_where_redis_sees_them() {
        let wrong = [
            (".t == true", 0),
            ("", 0),
            (" ", 0),
            (".o.k == 1", 0),
            ("..y", 0),
            (".y ==", 0),
            ("(.y", 0),
            (".y)", 0),
            ("1 in [1,[2]]", 8),
            ("1 in [1 2]", 8),
            ("1 in [.y]", 6),
            (".y @ 1", 3),
            (".y & 1", 4),
            (".y = 1950", 4),
            ("\"unterminated", 0),
            (".y 1950", 0),
            ("AND 1", 3),
            ("1 IN [1]", 4),
            ("True", 0),
            ("nott 1", 4),
            ("- 1", 0),
            ("0x10 == 16", 2),
            ("inf > 1", 3),
            ("1e+2 == 100", 2),
            ("1 ===1", 5),
            ("1 !== 1", 5),
            ("1 |& 0", 4),
            ("1***2", 0),
            (".y == 1950 #c", 11),
            ("1,2", 1),
            ("!!1", 0),
            ("not not 1", 0),
            ("()", 0),
            ("\"a\\", 0),
        ];
        for (text, at) in wrong {
            assert_eq!(Filter::parse(text.as_bytes()).map(drop), Err(at), "{text}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut rng = crate::stdx::rng::Rng::new(2);
        const PIECES: [&str; 26] = [
            ".y", "1", "-1", "\"a\"", "'b'", "(", ")", "[", "]", ",", "and", "or", "not", "in", "==", "!=",
            "<", ">=", "+", "-", "**", "*", "%", "null", " ", "\\",
        ];
        for _ in 0..20_000 {
            let text: String =
                (0..rng.below(12)).map(|_| *rng.choose(&PIECES).expect("there are some")).collect();
            if let Ok(filter) = Filter::parse(text.as_bytes()) {
                filter.accepts(FILM);
            }
        }
    }
}
