//! Functions of `table.*` for which LuaJIT's error messages differ from those of Lua 5.1, or which use metamethods
//! where Lua 5.1 does not.

use super::ffi::{Lua, Native};
use super::stack::Kind;
use crate::scripting::answer::truncate;
use crate::scripting::run::{bad_kind, check_number, check_string, check_table, fail, opt_number, tick};

/// `table.getn(t)`.
///
/// # Errors
/// The argument is not a table.
pub fn getn(lua: &mut Lua<'_>) -> Native {
    check_table(lua, 1)?;
    let len = lua.raw_len(1);
    lua.push_number(len as f64);
    Ok(1)
}

/// `table.remove(t, pos)`. O(items after `pos`).
///
/// # Errors
/// An argument has the wrong type.
pub fn remove(lua: &mut Lua<'_>) -> Native {
    check_table(lua, 1)?;
    let end = lua.raw_len(1) as i32;
    let pos = truncate(opt_number(lua, 2, f64::from(end))?) as i32;
    if !(1..=end).contains(&pos) {
        return Ok(0);
    }
    lua.raw_get_index(1, pos);
    let mut steps = 0;
    for i in pos..end {
        tick(lua, &mut steps, 0)?;
        lua.raw_get_index(1, i + 1);
        lua.raw_set_index(1, i as usize);
    }
    lua.push_nil();
    lua.raw_set_index(1, end as usize);
    Ok(1)
}

/// `table.insert(t, pos, value)`; without `pos`, LuaJIT's own function is used. O(items after `pos`). `pos` may be far
/// below the first item, so the loop can be interrupted.
///
/// # Errors
/// An argument has the wrong type.
pub fn insert(lua: &mut Lua<'_>) -> Native {
    check_table(lua, 1)?;
    let pos = truncate(check_number(lua, 2)?) as i32;
    let end = (lua.raw_len(1) as i32).saturating_add(1).max(pos);
    lua.set_top(3);
    let mut steps = 0;
    for i in (pos..end).rev() {
        tick(lua, &mut steps, 0)?;
        lua.push_number(f64::from(i) + 1.0);
        lua.push_number(f64::from(i));
        lua.raw_get(1);
        lua.raw_set(1);
    }
    lua.push_number(f64::from(pos));
    lua.push_value(3);
    lua.raw_set(1);
    Ok(0)
}

/// `table.concat(t, separator, from, to)`. O(length of the result).
///
/// # Errors
/// An argument has the wrong type, or an item is neither a string nor a number.
pub fn concat(lua: &mut Lua<'_>) -> Native {
    if !matches!(lua.kind(2), Kind::None | Kind::Nil) {
        check_string(lua, 2)?;
    }
    check_table(lua, 1)?;
    let from = truncate(opt_number(lua, 3, 1.0)?) as i32;
    let to = match lua.kind(4) {
        Kind::None | Kind::Nil => lua.raw_len(1) as i32,
        _ => truncate(opt_number(lua, 4, 0.0)?) as i32,
    };
    let (mut out, mut steps) = (Vec::new(), 0);
    let mut i = i64::from(from);
    while i <= i64::from(to) {
        tick(lua, &mut steps, out.len())?;
        lua.raw_get_index(1, i as i32);
        match lua.to_bytes(-1) {
            Some(text) => out.extend_from_slice(text),
            None => {
                let kind = lua.kind(-1).name();
                let text = format!("invalid value ({kind}) at index {i} in table for 'concat'");
                return Err(fail(lua, text.as_bytes()));
            }
        }
        lua.pop(1);
        if i < i64::from(to) {
            out.extend_from_slice(lua.bytes(2).unwrap_or_default());
        }
        i += 1;
    }
    lua.room_for(out.len())?;
    lua.push_bytes(&out);
    Ok(1)
}

/// The error of `table.foreach` and `table.foreachi` for arguments other than a table and a function.
///
/// # Errors
/// Always.
pub fn foreach_refused(lua: &mut Lua<'_>) -> Native {
    check_table(lua, 1)?;
    Err(bad_kind(lua, 2, "function"))
}

/// The error of `ipairs` for an argument that is not a table.
///
/// # Errors
/// The argument is not a table.
pub fn ipairs_refused(lua: &mut Lua<'_>) -> Native {
    check_table(lua, 1)?;
    Ok(0)
}
